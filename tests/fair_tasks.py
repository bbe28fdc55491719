"""Tasks whose jobs take turns."""

from windlass import task


@task(fair_by="tenant:{tenant}")
def export(tenant, number=0):
    return tenant


@task(fair_by=lambda tenant: None if tenant == "nobody" else tenant)
def maybe(tenant):
    return tenant


@task
def plain(tenant):
    return tenant
