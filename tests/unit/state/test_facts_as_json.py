"""Facts of a server, which the inventory keeps: they are the same after they were written as JSON."""

import json

from rdsiam.state.escalations import Escalation, Examined
from rdsiam.state.layout import Layout
from rdsiam.state.schemas import ObservedSchemas, OpenedSchemas, PublicSchema


def test_a_layout_is_read_as_it_was_written():
    layout = Layout("databases", "owners")
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_what_was_examined_is_read_as_it_was_written():
    opened = OpenedSchemas("shop", ("orders", "public"), 2)
    way = Escalation("shop", "boss", "app", "trigger", (), (("shop", "orders", "rise"),), 1, ("app",))
    examined = Examined(("shop",), (way,), ObservedSchemas((opened,), (PublicSchema("shop", "public", "boss"),)))
    assert Examined.from_json(json.loads(json.dumps(examined.to_json()))) == examined
