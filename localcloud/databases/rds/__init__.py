"""The lives of instances and clusters, with real servers.

A call goes through moto, as `moto_patches/rds/` changes it, and ends with a job for the `lives.Life` of the instance or
cluster; `fleet.Fleet` has all lives. Lives start and stop servers, move the status on, and publish events.
"""
