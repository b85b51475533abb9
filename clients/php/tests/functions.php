<?php

declare(strict_types=1);

// What the functions do beside what all languages share.

require __DIR__ . '/check.php';

// Every type comes back as it was.
foreach (['text', '', "\0b", 7, PHP_INT_MIN, 1.5, true, false, null, [1, ['a' => null]], new ArrayObject([1])] as $value) {
    check(memstream_store('key', $value), 'stored');
    $found = memstream_fetch('key', $success);
    check($success, 'found');
    is_object($value) ? check($value == $found, 'an equal object') : same($value, $found);
}
same(false, memstream_fetch('absent', $success));
same(false, $success);
same(true, memstream_add('new', 1));
same(false, memstream_add('new', 2));
same(['a' => 1, 'b' => [2]], (function () {
    memstream_store(['a' => 1, 'b' => [2]]);
    return memstream_fetch(['a', 'absent', 'b']);
})());
same(['a' => -1], memstream_add(['a' => 1, 'c' => 1]));
same(['a' => true], memstream_exists(['a', 'absent']));
same(['absent'], memstream_delete(['a', 'absent']));

// Counting.
same(5, memstream_inc('count', 5));
same(5, memstream_fetch('count'));
same(3, memstream_dec('count', 2, $success));
same(true, $success);
memstream_store('text', 'no number');
check(str_contains(warning(function () use (&$success) {
    same(false, memstream_inc('text', 1, $success));
}), 'integer'), 'a warning');
same(false, $success);
same(true, memstream_cas('count', 3, 10));
same(false, memstream_cas('count', 3, 11));
same(10, memstream_fetch('count'));
same(false, memstream_cas('absent', 1, 2));
memstream_store('timed', 1, 60);
same(true, memstream_cas('timed', 1, 2));
check(abs(memstream_key_info('timed')['expiration_time'] - microtime(true) - 60) < 2, 'cas keeps the time to live');
memstream_inc('born', 1, $success, 60);
check(memstream_key_info('born')['expiration_time'] > 0, 'inc gives a time to live to what it makes');
same(null, memstream_key_info('absent'));

// entry(): once, not after an exception, and also what cannot be stored.
$calls = 0;
$generate = function (string $key) use (&$calls) {
    $calls++;
    return "$key made";
};
same('e made', memstream_entry('e', $generate));
same('e made', memstream_entry('e', $generate));
same(1, $calls);
try {
    memstream_entry('failing', fn () => throw new RuntimeException('no data'));
    check(false, 'an exception');
} catch (RuntimeException $error) {
    same('no data', $error->getMessage());
}
same('works', memstream_entry('failing', fn () => 'works'));
same('once', memstream_entry('deleted', function () {
    memstream_delete('deleted'); // Newer than the computation: its value is not stored.
    return 'once';
}));
same(false, memstream_exists('deleted'));
$large = str_repeat('x', 8 << 20);
check(str_contains(warning(fn () => same($large, memstream_entry('large', fn () => $large))), '8388608'), 'a warning');
same('small', memstream_entry('large', fn () => 'small'));

// Mistakes.
foreach ([fn () => memstream_store('key', 1, -1), fn () => memstream_inc('key', 1, $success, -1), fn () => memstream_touch('key', -1),
    fn () => memstream_entry('key', fn () => 1, -1), fn () => memstream_dec('key', PHP_INT_MIN)] as $call) {
    try {
        $call();
        check(false, 'a ValueError');
    } catch (ValueError) {
    }
}
try {
    memstream_store('key', fn () => 1);
    check(false, 'a closure cannot be stored');
} catch (Exception $error) {
    check(str_contains($error->getMessage(), 'Closure'), $error->getMessage());
}
check(str_contains(warning(fn () => same(false, memstream_store('', 1))), '1 to 1024'), 'a warning');
same(-2, memstream_last_status());

// A cache that somebody removes is made again by the next call but one.
memstream_store('key', 1);
exec(PHP_BINARY . ' -n -d extension=' . escapeshellarg($argv[1]) . ' -d memstream.name=' . ini_get('memstream.name')
    . " -r 'exit(memstream_destroy() ? 0 : 1);'", result_code: $code);
same(0, $code);
check(str_contains(warning(fn () => same(false, memstream_store('key', 1))), 'destroyed'), 'a warning');
same(true, memstream_store('key', 1));
same(1, memstream_cache_info()['processes']);
memstream_clear_cache();
same(0, memstream_cache_info()['num_entries']);
memstream_destroy();
echo "the functions hold\n";
