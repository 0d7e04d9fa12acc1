"""RDS: what moto lacks of it (`patch_…`), and what becomes of its resources over time, with real servers behind.

A call goes through moto, as the patches change it, and ends with a job for the `lives.Life` of the instance or cluster;
`fleet.Fleet` knows them all. Lives start and stop servers, move the status on, and publish events.
"""
