<?php

declare(strict_types=1);

// The cases that every language runs: tests/conformance/README.md. The functions are APCu's, so there is no call for
// flags, for tokens of cas and for leases: steps with those are left out, and counted.

require __DIR__ . '/check.php';

const STATUSES = [0 => 'OK', 1 => 'MISS', 2 => 'EXISTS', -2 => 'BAD_KEY', -3 => 'TOO_LARGE', -6 => 'NOT_NUMERIC'];

function bytes(mixed $given): string
{
    if (is_string($given)) {
        return $given;
    }
    return isset($given['hex']) ? hex2bin($given['hex']) : str_repeat($given['repeat'], $given['count']);
}

/** Performs a step; null: PHP has no such call. */
function perform(array $step): ?string
{
    $key = isset($step['key']) ? bytes($step['key']) : '';
    // The functions take whole seconds.
    $ttl = isset($step['ttl_ms']) ? (int) ceil($step['ttl_ms'] / 1000) : 0;
    if (array_intersect_key($step, ['flags' => 1, 'save' => 1, 'token' => 1])) {
        return null;
    }
    switch ($step['call']) {
        case 'get':
            $value = memstream_fetch($key, $found);
            $found && same(bytes($step['value']), (string) $value);
            break;
        case 'set':
            memstream_store($key, bytes($step['value']), $ttl);
            break;
        case 'add':
            memstream_add($key, bytes($step['value']), $ttl);
            break;
        case 'replace':
            memstream_replace($key, bytes($step['value']), $ttl);
            break;
        case 'delete':
            memstream_delete($key);
            break;
        case 'exists':
            memstream_exists($key);
            break;
        case 'touch':
            memstream_touch($key, $ttl);
            break;
        case 'ttl':
            $info = memstream_key_info($key);
            if ($info !== null) {
                same($step['never'] ?? false, $info['expiration_time'] === 0.0);
                $left = ($info['expiration_time'] - microtime(true)) * 1000;
                check($info['expiration_time'] === 0.0 || ($left >= $step['at_least'] && $left <= $step['at_most'] + 1000), "$left");
            }
            break;
        case 'incr':
            if (!isset($step['initial']) && !memstream_exists($key)) {
                return null; // memstream_inc() makes what is missing.
            }
            $sum = memstream_inc($key, (int) $step['delta'], $done, $ttl);
            $done && same($step['result'], (string) $sum);
            break;
        case 'get_many':
            $found = memstream_fetch($step['keys']);
            foreach ($step['keys'] as $at => $name) {
                isset($step['values']) && same($step['values'][$at] === null ? null : bytes($step['values'][$at]), $found[$name] ?? null);
            }
            if (isset($step['values'])) {
                return 'OK'; // The status is that of the last key.
            }
            break;
        case 'set_many':
            same([], memstream_store(array_map(bytes(...), $step['values']), null, $ttl));
            return 'OK';
        case 'delete_many':
            same(count($step['keys']) - $step['removed'], count(memstream_delete($step['keys'])));
            return 'OK';
        case 'clear':
            memstream_clear_cache();
            break;
        case 'wait':
            usleep($step['ms'] * 1000);
            return 'OK';
        default:
            check(false, "no such call: {$step['call']}");
    }
    return STATUSES[memstream_last_status()] ?? (string) memstream_last_status();
}

$description = json_decode(file_get_contents($argv[1]), true);
$done = 0;
$left_out = 0;
foreach ($description['cases'] as $case) {
    memstream_clear_cache();
    // Whole seconds: a case that counts in milliseconds is left out. So is what follows a step that was left out in a case
    // about tokens, flags or leases.
    $skips = array_filter($case['steps'], fn ($step) => ($step['ttl_ms'] ?? 1000) < 1000 || isset($step['token']) || isset($step['flags']));
    foreach ($case['steps'] as $step) {
        $status = null;
        if (!$skips) {
            $message = warning(function () use ($step, &$status) {
                $status = perform($step);
            });
        }
        if ($status === null) {
            $left_out++;
            continue;
        }
        check($status === $step['expect'], "{$case['name']}: " . substr(json_encode($step), 0, 200) . " gave $status");
        check(str_contains($message, $step['message'] ?? ''), $message);
        $done++;
    }
}
check($done > 80, "only $done steps");
memstream_destroy();
echo "$done steps of conformance hold; $left_out need calls that APCu does not have\n";
