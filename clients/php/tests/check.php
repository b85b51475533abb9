<?php

declare(strict_types=1);

// What the PHP tests share. A check that does not hold ends the script with 1.

function check(bool $truth, string $what): void
{
    if (!$truth) {
        $trace = debug_backtrace();
        fwrite(STDERR, basename($trace[0]['file']) . ':' . $trace[0]['line'] . ": $what\n");
        memstream_destroy();
        exit(1);
    }
}

function same(mixed $expected, mixed $found): void
{
    if ($expected !== $found) {
        $trace = debug_backtrace();
        fwrite(STDERR, basename($trace[0]['file']) . ':' . $trace[0]['line'] . ': expected ' . var_export($expected, true)
            . ', got ' . var_export($found, true) . "\n");
        memstream_destroy();
        exit(1);
    }
}

/** The warning of a call. */
function warning(callable $call): string
{
    $message = '';
    set_error_handler(function (int $level, string $text) use (&$message): bool {
        $message = $text;
        return true;
    });
    $call();
    restore_error_handler();
    return $message;
}
