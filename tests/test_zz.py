from __future__ import annotations

from tests.test_prune import *


@pytest.mark.parametrize("pair", pairings("sqlite-postgresql"), indirect=True)
def test_zz(watch, depot):
    with override_settings(
        GESTORE_SYNC={"IDENTITY": {"policies.Depot": ["name"], "policies.Parcel": ["depot", "number"]}}
    ):
        other = next(using for using in DATABASES if using not in (watch.source, watch.target))
        theirs = make(Depot, other, name="ours")
        make(Scan, other, parcel=make(Parcel, other, depot=theirs, number="goes"), text="theirs")
        r = Watch(Pair(other, watch.target)).push(theirs)
        print(r.as_dict())
        print(watch.on_target(Parcel).values(), watch.on_target(Scan).values())
        remove(watch, number="goes")
        r = watch.synchronize(depot, prune=True)
        print(r.as_dict())
        for m in IdMapping.objects.using(watch.target).all():
            print(m.origin_id, m, m.created)
