<?php
// Runs inside the server: what it cannot do, no page can.
header('Content-Type: text/plain; charset=utf-8');
$missing = array_filter(['pdo_mysql', 'mysqli', 'gd', 'intl', 'mbstring'], fn ($name) => !extension_loaded($name));
if ($missing) {
    http_response_code(503);
    exit('PHP lacks ' . implode(', ', $missing) . "\n");
}
if (!is_readable('/app/web/index.php')) {
    http_response_code(503);
    exit("the application cannot be read\n");
}
if (!is_writable('/tmp')) {
    http_response_code(503);
    exit("/tmp cannot be written to\n");
}
echo "well\n";
