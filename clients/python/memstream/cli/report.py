"""What analytics shows: one look at the cache, as data and as a screen."""

from __future__ import annotations

import heapq
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from memstream.cache import Cache
from memstream.cli.text import bar, format_instant, format_size, printable
from memstream.records import Entry, Info, Stats, Usage

_KEY_WIDTH = 44


class _Top:
    """The entries that are highest by some measure, picked in one pass with room for just those."""

    def __init__(self, count: int, measure: Callable[[Entry], float]) -> None:
        self._count = count
        self._measure = measure
        self._heap: List[Tuple[float, bytes, Entry]] = []

    def offer(self, entry: Entry) -> None:
        ranked = (self._measure(entry), entry.key, entry)
        if len(self._heap) < self._count:
            heapq.heappush(self._heap, ranked)
        elif ranked > self._heap[0]:
            heapq.heapreplace(self._heap, ranked)

    def entries(self) -> List[Entry]:
        return [entry for _, _, entry in sorted(self._heap, reverse=True)]


class Report(NamedTuple):
    """One look at a cache."""

    info: Info
    stats: Stats
    usage: Usage
    invalidations: int
    """Of tags."""
    top: Dict[str, List[Entry]]
    """By "accesses", "size" and "recency": the highest entries, highest first."""


def take_report(cache: Cache, top: int) -> Report:
    """Looks at statistics and entries; counts no access.

    Args:
        cache: what to look at.
        top: how many entries of each ranking.
    """
    rankings = {
        "accesses": _Top(top, lambda entry: entry.access_count),
        "size": _Top(top, lambda entry: entry.value_size),
        "recency": _Top(top, lambda entry: entry.last_access),
    }
    for entry in cache.scan():
        for ranking in rankings.values():
            ranking.offer(entry)
    top_entries = {name: ranking.entries() for name, ranking in rankings.items()}
    return Report(cache.info(), cache.stats(), cache.usage(), cache.invalidations(), top_entries)


def sample(info: Info, stats: Stats, usage: Usage, invalidations: int) -> Dict[str, Any]:
    """Returns the figures as one flat object for JSON. Instants are Unix time in seconds."""
    return {
        "time": stats.now,
        "backend": info.backend,
        "name": info.name,
        "uuid": str(info.uuid),
        "accelerated": info.accelerated,
        "hit_ratio": stats.hit_ratio,
        **stats._asdict(),
        **usage._asdict(),
        "invalidations": invalidations,
    }


def as_json(report: Report) -> Dict[str, Any]:
    """Returns the whole report as an object for JSON."""
    top = {name: [_entry_as_json(entry) for entry in entries] for name, entries in report.top.items()}
    return {**sample(report.info, report.stats, report.usage, report.invalidations), "top": top}


def _entry_as_json(entry: Entry) -> Dict[str, Any]:
    return {**entry._asdict(), "key": entry.key.decode("utf-8", "backslashreplace")}


def render(report: Report, before: Optional[Report] = None) -> str:
    """Returns the report as a screen of text.

    Args:
        report: what to show.
        before: an earlier look at the same cache, to show the rates since then.
    """
    lines = [*_render_stats(report.info, report.stats), _render_usage(report.usage, report.invalidations)]
    if before is not None and before.info.uuid == report.info.uuid:
        lines += ["", *_render_rates(before.stats, report.stats)]
    lines += ["", *_render_bars(report.stats)]
    columns = f"{'accesses':>9} {'size':>10}  {'created':19}  {'last access':19}  expires"
    for title, name in (("most accessed", "accesses"), ("largest", "size"), ("most recent", "recency")):
        lines += ["", f"{title:<{_KEY_WIDTH}} {columns}", *_render_entries(report.top[name])]
    return "\n".join(lines)


def _render_stats(info: Info, stats: Stats) -> Iterable[str]:
    ratio = "no lookups yet" if stats.hit_ratio is None else f"{100 * stats.hit_ratio:.2f} %"
    used = f"{format_size(stats.used_memory)} ({100 * stats.used_memory / stats.reachable_memory:.1f} %)"
    reachable = (
        f"; the system gives {format_size(stats.reachable_memory)} at most"
        if stats.reachable_memory < stats.max_memory
        else ""
    )
    access = ", read-only" if info.read_only else ""
    yield (
        f"MemStream {info.backend}:{info.name}{access}  {format_size(info.size)}, shards {stats.shards}, "
        f"processes {stats.processes}, created {format_instant(stats.created_at)}, now {format_instant(stats.now)}"
    )
    yield ""
    yield f"hit ratio   {ratio}  ({stats.hits} hits, {stats.misses} misses)"
    yield (
        f"entries     {stats.entries}, tables hold {stats.entry_capacity}; keys {format_size(stats.key_memory)}, "
        f"values {format_size(stats.value_memory)}"
    )
    yield (
        f"memory      used {used}, committed {format_size(stats.committed_memory)}, "
        f"tables {format_size(stats.table_memory)}, pinned {format_size(stats.pinned_memory)}; "
        f"largest value {format_size(stats.max_value_size)}{reachable}"
    )
    page = format_size(stats.page_size) if stats.page_size else "unknown"
    yield f"pages       {page} each, huge pages: {stats.huge_pages}"
    yield f"python      calls are {'accelerated' if info.accelerated else 'not accelerated'} with this installation"
    yield (
        f"operations  {stats.puts} puts, {stats.deletes} deletes, {stats.evictions} evictions, "
        f"{stats.expirations} expirations"
    )
    yield (
        f"trouble     {stats.dead_processes} processes died, {stats.recoveries} recoveries, {stats.damaged} damaged "
        f"entries, {stats.view_copies} views copied, {stats.busy_shards} shards held by others, "
        f"{stats.commit_failures} times no more memory"
    )


def _render_usage(usage: Usage, invalidations: int) -> str:
    return (
        f"in use      {usage.rates} of {usage.rate_capacity} rates, {usage.semaphores} semaphores, "
        f"{usage.locks} locks; {usage.permits} permits in {usage.holders} of {usage.holder_capacity} places; waiters: "
        f"{usage.change_waiters} for a change, {usage.permit_waiters} for a permit, {usage.lease_waiters} for a lease; "
        f"tags: {invalidations} invalidations"
    )


def _render_rates(before: Stats, now: Stats) -> Iterable[str]:
    """What happened between two looks. Counters that went backwards count 0."""
    passed = now.now - before.now
    if passed <= 0:
        return

    was, is_now = before._asdict(), now._asdict()

    def grown(field: str) -> int:
        return max(0, int(is_now[field]) - int(was[field]))

    hits, gets = grown("hits"), grown("hits") + grown("misses")
    ratio = "no lookups" if gets == 0 else f"{100 * hits / gets:.2f} % hits"
    rates = ", ".join(
        f"{name} {grown(name) / passed:.0f}/s" for name in ("puts", "deletes", "evictions", "expirations")
    )
    yield f"last {passed:<6.1f} gets {gets / passed:.0f}/s ({ratio}), {rates}"


def _render_bars(stats: Stats) -> Iterable[str]:
    """The hit ratio, and how full the cache is."""
    if stats.hit_ratio is not None:
        yield f"hits        {bar(stats.hit_ratio)} {100 * stats.hit_ratio:.1f} %"
    full = (stats.used_memory + stats.table_memory) / stats.reachable_memory
    yield f"full        {bar(full)} {100 * full:.1f} %"


def _render_entries(entries: List[Entry]) -> Iterable[str]:
    for entry in entries:
        expires = "never" if entry.expires_at is None else format_instant(entry.expires_at)
        key = printable(entry.key, _KEY_WIDTH)
        yield (
            f"{key:<{_KEY_WIDTH}} {entry.access_count:>9} {format_size(entry.value_size):>10}"
            f"  {format_instant(entry.created_at)}  {format_instant(entry.last_access)}  {expires}"
        )
