<?php

declare(strict_types=1);

// PSR-16, point by point.

require __DIR__ . '/check.php';
require 'Psr/SimpleCache/autoload.php';
require __DIR__ . '/../lib/SimpleCache.php';

use MemStream\SimpleCache;
use Psr\SimpleCache\InvalidArgumentException;

$cache = new SimpleCache('psr.');
same(null, $cache->get('absent'));
same('default', $cache->get('absent', 'default'));
foreach (['text', 7, 1.5, true, false, null, [1, 2], new ArrayObject([1])] as $value) {
    same(true, $cache->set('key', $value));
    $found = $cache->get('key', 'default');
    is_object($value) ? check($value == $found, 'an equal object') : same($value, $found);
    same(true, $cache->has('key'));
}
same(true, $cache->delete('key'));
same(true, $cache->delete('key'));
same(false, $cache->has('key'));

// Times to live.
same(true, $cache->set('key', 1, 60));
check(memstream_key_info('psr.key')['expiration_time'] > 0, 'it expires');
same(true, $cache->set('key', 1, new DateInterval('PT1M')));
check(abs(memstream_key_info('psr.key')['expiration_time'] - microtime(true) - 60) < 2, 'in a minute');
same(true, $cache->set('key', 1));
same(0.0, memstream_key_info('psr.key')['expiration_time']);
foreach ([0, -1] as $ttl) {
    $cache->set('key', 1);
    same(true, $cache->set('key', 2, $ttl));
    same(false, $cache->has('key'));
}

// Many.
same(true, $cache->setMultiple(['a' => 1, '7' => 2]));
same(['a' => 1, 7 => 2, 'absent' => 'none'], $cache->getMultiple(['a', '7', 'absent'], 'none'));
same(['a' => 1], $cache->getMultiple((fn () => yield 'a')()));
same(true, $cache->setMultiple((function () {
    yield 'b' => 3;
})(), 60));
same(3, $cache->get('b'));
same(true, $cache->deleteMultiple(['a', 'b', 'absent']));
same(['a' => null], $cache->getMultiple(['a']));

// Keys.
same(true, $cache->set('AZaz09_.', 1) && $cache->set(str_repeat('k', 64), 1) && $cache->set('ключ', 1));
$wrong = ['', '{', '}', '(', ')', 'a/b', 'a\\b', '@', ':'];
foreach ($wrong as $key) {
    foreach ([fn () => $cache->get($key), fn () => $cache->set($key, 1), fn () => $cache->delete($key), fn () => $cache->has($key),
        fn () => $cache->getMultiple([$key]), fn () => $cache->setMultiple([$key => 1]), fn () => $cache->deleteMultiple([$key])] as $call) {
        try {
            $call();
            check(false, "the key '$key' was taken");
        } catch (InvalidArgumentException $error) {
            check(str_starts_with($error->getMessage(), 'Invalid key'), $error->getMessage());
        }
    }
}
foreach ([fn () => $cache->getMultiple('text'), fn () => $cache->setMultiple(7), fn () => $cache->deleteMultiple(null), fn () => $cache->get([])] as $call) {
    try {
        $call();
        check(false, 'an argument that is not iterable was taken');
    } catch (InvalidArgumentException) {
    }
}
same(true, $cache->clear());
same(false, $cache->has('AZaz09_.'));
memstream_destroy();
echo "PSR-16 holds\n";
