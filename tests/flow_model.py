"""
What a workflow comes to, by a model that runs it from front to back, alone.

It walks the flow as it was written, one member after another, and knows nothing of
gates, edges, rows or locks. ``written`` makes flows of any shape from a Random, to be
run by the model and by Windlass.
"""

from dataclasses import dataclass, field

from tests.flow_tasks import digest, work
from windlass.signatures import Signature
from windlass.workflows import Workflow, chain, group
from windlass.workflows.building import Member

NOTHING = object()


@dataclass
class Expected:
    """How each job of a run ends, what it returns, and how the run ends."""

    outcomes: dict = field(default_factory=dict)
    values: dict = field(default_factory=dict)
    state: str = "succeeded"


def expected(flow):
    """Run a flow in the head."""
    found = Expected()
    _Flow(flow, found).run()
    return found


@dataclass
class _Flow:
    """One flow, perhaps nested: what it is given, and how its members end."""

    flow: Workflow
    found: Expected
    may_start: bool = True
    feed: object = NOTHING
    prefix: str = ""
    is_forgiven: bool = False
    ends: dict = field(default_factory=dict)

    def run(self):
        for member in self.flow.members:
            self.ends[member] = self._end(member)

    def policy(self, member):
        return member.on_failure or self.flow.on_failure

    def passes(self, member, when):
        state, _value = self.ends[member]
        if when == "always":
            return True
        failed = state == "failed"
        if when == "failure":
            return failed
        return state == "succeeded" or (failed and self.policy(member) == "ignore")

    def _end(self, member):
        ok = all(self.passes(each, when) for each, when in member.waits_for)
        if not member.waits_for or member.is_callback:
            ok = ok and self.may_start
        feed, what = self._feed(member), member.what
        is_forgiven = self.is_forgiven or self.policy(member) == "ignore"
        if what is None:
            values = [self.ends[each][1] for each, _when in member.waits_for]
            return "succeeded" if ok else "failed", values
        name = self.prefix + member.name
        if isinstance(what, Signature):
            state, value = self._call(what, feed) if ok else ("skipped", None)
            self.found.outcomes[name], self.found.values[name] = state, value
            if state == "failed" and not is_forgiven:
                self.found.state = "failed"
            return state, value
        nested = _Flow(what, self.found, ok, feed, f"{name}/", is_forgiven)
        nested.run()
        return nested.whole()

    def whole(self):
        """How the flow as a whole ends, and its value."""
        leaves = [self.flow.join] if self.flow.join else self._leaves()
        ok = all(self.passes(leaf, "success") for leaf in leaves)
        values = [self.ends[leaf][1] for leaf in leaves]
        if not leaves:
            ok = self.may_start
        state = "succeeded" if ok else "failed"
        return state, values[0] if len(values) == 1 else values

    def _leaves(self):
        members = self.flow.members
        awaited = {each for m in members for each, _when in m.waits_for}
        return [member for member in members if member not in awaited]

    def _feed(self, member):
        if member.feed is None:
            is_first = self.flow.takes_input and not member.waits_for
            return self.feed if is_first else NOTHING
        if not member.takes_outcomes:
            return self.ends[member.feed][1]
        return [
            {
                "name": self.prefix + each.name,
                "state": self.ends[each][0],
                "value": self.ends[each][1],
            }
            for each, _when in member.feed.waits_for
        ]

    def _call(self, call, feed):
        if call.kwargs.get("fails"):
            return "failed", None
        args = [self._filled(value) for value in call.args]
        if feed is not NOTHING and not call.is_immutable:
            args.insert(0, feed)
        return "succeeded", digest(args)

    def _filled(self, value):
        if isinstance(value, Member):
            return self.ends[value][1]
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        return value


def written(random, size, *, levels=2, policies=("continue", "ignore"), failing=0.2):
    """A graph of about so many jobs, with chains, groups and graphs nested in it."""
    return _Writer(random, policies, failing).graph(size, levels)


class _Writer:
    def __init__(self, random, policies, failing):
        self.random, self.policies, self.failing = random, policies, failing

    def graph(self, size, levels):
        flow = Workflow("graph", on_failure=self.random.choice(self.policies))
        members = []
        while size > 0:
            before = self._some(members)
            what, cost = self.call(size, levels)
            size -= cost
            if isinstance(what, Signature):
                passed = [m for m in self._some(members) if self.random.random() < 0.5]
                args = (*what.args, *passed[:1], [*passed[1:]])
                what = Signature(what.task, args, what.kwargs)
            members.append(flow.add(what, depends_on=before, on_failure=self._policy()))
        return flow

    def _some(self, members):
        if not members:
            return []
        # Mostly of the last ones, or a big graph would be a few levels deep.
        recent = members[-8:] if self.random.random() < 0.8 else members
        count = min(len(recent), self.random.choice([0, 1, 1, 2, 3]))
        return self.random.sample(recent, count)

    def _policy(self):
        return self.random.choice([None, None, None, *self.policies])

    def call(self, size, levels):
        """A signature or a nested flow, and how many jobs it is."""
        shape = self.random.choice(["job"] * 6 + ["chain", "group", "graph"])
        if shape == "job" or levels == 0 or size < 3:
            return self.signature(), 1
        most = self.random.randint(1, min(size, 12))
        if shape == "graph":
            return self.graph(most, levels - 1), most
        parts = [self.call(most, levels - 1) for _ in range(self.random.randint(1, 4))]
        calls, cost = [p[0] for p in parts], sum(p[1] for p in parts)
        if shape == "chain":
            return chain(*calls, on_failure=self.random.choice(self.policies)), cost
        called = {
            name: self.call(2, levels - 1)[0]
            for name in ("on_complete", "on_success", "on_failure")
            if self.random.random() < 0.4
        }
        policy = self.random.choice(self.policies)
        return group(calls, policy=policy, **called), cost + len(called)

    def signature(self):
        fails = self.random.random() < self.failing
        misses = self.random.choice([0, 0, 0, 1])
        sign = work.si if self.random.random() < 0.2 else work.s
        return sign(self.random.randrange(1000), fails=fails, misses=misses)
