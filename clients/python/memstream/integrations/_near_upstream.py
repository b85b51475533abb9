"""What a client of redis-py says about its Redis, as libmemstream_near.so wants to have it."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Optional, Tuple, Type

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster

from memstream._core.abi import Status
from memstream._core.arguments import invalid
from memstream.errors import InvalidArgument

CLIENTS: Tuple[Type[Any], ...] = (redis.Redis, redis.cluster.RedisCluster)
ASYNC_CLIENTS: Tuple[Type[Any], ...] = (redis.asyncio.Redis, redis.asyncio.cluster.RedisCluster)

ConnectionFailed: Type[Exception] = redis.ConnectionError

# That Redis cannot be reached, or a cluster has nobody for a key: then what is stale may be better than nothing.
UNREACHABLE: Tuple[Type[Exception], ...] = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.ClusterError,
    redis.exceptions.RedisClusterException,
    OSError,
)


_MOST_NODES = 8


class Upstream(NamedTuple):
    """Where a Redis is, and who may use it."""

    address: str
    user: Optional[bytes]
    password: Optional[bytes]
    is_cluster: bool


def upstream_of(client: Any) -> Upstream:
    """Returns what a client connects to.

    Raises:
        InvalidArgument: it uses TLS, returns text, or reads from replicas.
    """
    is_cluster = isinstance(client, (redis.cluster.RedisCluster, redis.asyncio.cluster.RedisCluster))
    if is_cluster:
        options, address = _cluster_options(client)
        uses_tls = bool(options.get("ssl")) or _is_tls(options.get("connection_class"))
        if getattr(client, "read_from_replicas", False):
            text = invalid("client", client, "one that reads from masters", "Make it without read_from_replicas=True")
            raise InvalidArgument(Status.INVALID, text)
    else:
        options, uses_tls = client.connection_pool.connection_kwargs, _is_tls(client.connection_pool.connection_class)
        address = _address_of(options)
    if uses_tls:
        text = invalid("client", client, "one without TLS", "Use a Unix socket, a private network or a tunnel")
        raise InvalidArgument(Status.INVALID, text)
    if options.get("decode_responses"):
        text = invalid("client", client, "one that returns bytes", "Make it without decode_responses=True")
        raise InvalidArgument(Status.INVALID, text)
    user, password = options.get("username"), options.get("password")
    return Upstream(address, user and str(user).encode(), password and str(password).encode(), is_cluster)


def _cluster_options(client: Any) -> Tuple[Any, str]:
    """Returns the options of a cluster's connections, and the addresses of nodes that know the others."""
    nodes = client.nodes_manager.startup_nodes.values()
    addresses = sorted({_address_of({"host": node.host, "port": node.port}) for node in nodes})
    return client.get_connection_kwargs(), ",".join(addresses[:_MOST_NODES])


def _address_of(options: Any) -> str:
    if options.get("path"):
        return f"unix:{options['path']}"
    host, port = options.get("host") or "localhost", options.get("port", 6379)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_tls(connection_class: Any) -> bool:
    classes = (redis.SSLConnection, redis.asyncio.SSLConnection)
    return isinstance(connection_class, type) and issubclass(connection_class, classes)


def client_from_url(url: str, is_cluster: bool, options: Mapping[str, Any]) -> Any:
    """Makes a client without asyncio of a URL: `redis://` or `unix://`."""
    client_class = redis.cluster.RedisCluster if is_cluster else redis.Redis
    return client_class.from_url(url, **options)


def asks_as_the_library_does(client: Any) -> bool:
    """Whether libmemstream_near.so may ask in the place of a client: of redis-py's own classes, and of database 0."""
    if type(client) is redis.cluster.RedisCluster:
        return True
    if type(client) is not redis.Redis or client.connection is not None:
        return False
    return not client.connection_pool.connection_kwargs.get("db")
