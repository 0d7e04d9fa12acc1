"""The table of patches: everything that localcloud changes of moto."""

from __future__ import annotations

from localcloud.databases.rds.fleet import Fleet
from localcloud.moto_patches import (
    dynamodb,
    events,
    iam,
    kms,
    pages,
    s3,
    secretsmanager,
    securityhub,
    settings,
    speed,
    sts,
)
from localcloud.moto_patches.events import Deliver
from localcloud.moto_patches.patch import Patch
from localcloud.moto_patches.rds import (
    cluster_endpoints,
    clusters,
    copies,
    instances,
    parameters,
    proxies,
    proxy_endpoints,
    versions,
)
from localcloud.moto_patches.rotations import Rotations


def patches(fleet: Fleet, deliver: Deliver, rotations: Rotations) -> tuple[Patch, ...]:
    """Return every patch of moto.

    :param fleet: the databases, whose lives the calls of RDS change.
    :param deliver: takes the events that rules send to functions.
    :param rotations: rotates secrets.
    """
    return (
        settings.UserConfig(),
        settings.BucketNames("moto.settings"),
        settings.BucketNames("moto.s3.utils"),
        instances.Engines(),
        instances.Instances(),
        instances.Members(),
        instances.MasterSecrets(),
        instances.InstanceCalls(fleet),
        clusters.Engines(),
        clusters.Clusters(),
        clusters.ClusterCalls(fleet),
        clusters.ClusterResponses(),
        cluster_endpoints.ClusterEndpointResponses(fleet),
        copies.Snapshots(),
        copies.CopyCalls(fleet),
        proxies.Proxies(),
        proxies.Targets(),
        proxies.ProxyCalls(fleet),
        proxies.ProxyResponses(fleet),
        proxy_endpoints.ProxyEndpointResponses(fleet),
        parameters.ParameterGroups(fleet),
        versions.VersionResponses(),
        events.Rules(deliver),
        events.PuttingEvents(),
        sts.Sessions(),
        sts.AssumingRoles(),
        iam.InlinePolicies("moto.iam.models.Role"),
        iam.InlinePolicies("moto.iam.models.User"),
        iam.InlinePolicies("moto.iam.models.Group"),
        iam.AccountDetails(),
        kms.Keys(),
        s3.BucketPolicies(),
        dynamodb.Writes(),
        pages.Pages(),
        speed.ErrorShapes(),
        speed.Backends(),
        speed.Actions(),
        speed.Templates(),
        speed.AttributeValues(),
        securityhub.Paths(),
        securityhub.FindingCalls(),
        securityhub.FindingUpdates(),
        *secrets_manager_patches(rotations),
    )


def secrets_manager_patches(rotations: Rotations) -> tuple[Patch, ...]:
    """Return the patches of Secrets Manager, which some tests and benchmarks need without a cloud."""
    return (
        secretsmanager.Secrets(),
        secretsmanager.SecretCalls(rotations),
        secretsmanager.SecretResponses(),
    )
