<?php

declare(strict_types=1);

namespace MemStream;

use DateInterval;
use DateTimeImmutable;
use InvalidArgumentException as NativeInvalidArgument;
use Psr\SimpleCache\CacheInterface;
use Psr\SimpleCache\InvalidArgumentException as PsrInvalidArgument;

/** What PSR-16 wants to be thrown for a key or an argument that is not valid. */
final class InvalidArgument extends NativeInvalidArgument implements PsrInvalidArgument
{
}

/**
 * PSR-16 over the extension: all processes of the machine that use the same cache see the same values.
 *
 * `$prefix` keeps programs apart. clear() removes every key of the cache, so use it with a cache of your own.
 */
final class SimpleCache implements CacheInterface
{
    public function __construct(private readonly string $prefix = '')
    {
    }

    private function name(mixed $key): string
    {
        if (is_int($key)) {
            $key = (string) $key; // PHP makes ints of array keys such as '7'.
        }
        if (!is_string($key) || $key === '' || strpbrk($key, '{}()/\\@:') !== false) {
            $shown = is_string($key) ? $key : get_debug_type($key);
            throw new InvalidArgument("Invalid key '$shown': expected a string without any of {}()/\\@:");
        }
        return $this->prefix . $key;
    }

    /** Seconds from now; 0: for ever; below 0: it has expired already. */
    private function seconds(null|int|DateInterval $ttl): int
    {
        if ($ttl === null) {
            return 0;
        }
        if ($ttl instanceof DateInterval) {
            $now = new DateTimeImmutable();
            $ttl = $now->add($ttl)->getTimestamp() - $now->getTimestamp();
        }
        return $ttl > 0 ? $ttl : -1;
    }

    private function list(mixed $given): array
    {
        if (!is_iterable($given)) {
            throw new InvalidArgument('Invalid keys: expected an array or a Traversable, not ' . get_debug_type($given));
        }
        return is_array($given) ? $given : iterator_to_array($given, false);
    }

    public function get($key, $default = null)
    {
        $value = memstream_fetch($this->name($key), $found);
        return $found ? $value : $default;
    }

    public function set($key, $value, $ttl = null)
    {
        $name = $this->name($key);
        $seconds = $this->seconds($ttl);
        if ($seconds < 0) {
            memstream_delete($name);
            return true;
        }
        return memstream_store($name, $value, $seconds);
    }

    public function delete($key)
    {
        return memstream_delete($this->name($key)) || memstream_last_status() >= 0;
    }

    public function clear()
    {
        return memstream_clear_cache();
    }

    public function has($key)
    {
        return memstream_exists($this->name($key));
    }

    public function getMultiple($keys, $default = null)
    {
        $result = [];
        $names = [];
        foreach ($this->list($keys) as $key) {
            $names[$key] = $this->name($key);
        }
        $found = memstream_fetch(array_values($names));
        foreach ($names as $key => $name) {
            $result[$key] = array_key_exists($name, $found) ? $found[$name] : $default;
        }
        return $result;
    }

    public function setMultiple($values, $ttl = null)
    {
        if (!is_iterable($values)) {
            $this->list($values);
        }
        $done = true;
        foreach ($values as $key => $value) {
            $done = $this->set($key, $value, $ttl) && $done;
        }
        return $done;
    }

    public function deleteMultiple($keys)
    {
        $done = true;
        foreach ($this->list($keys) as $key) {
            $done = $this->delete($key) && $done;
        }
        return $done;
    }
}
