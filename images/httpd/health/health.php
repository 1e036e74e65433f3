<?php
// Says whether this container is of use to anyone: exit code 0, or 1 with the reason.

function unhealthy(string $reason): never
{
    fwrite(STDERR, "unhealthy: $reason\n");
    exit(1);
}

// PHP runs inside the server, and the application can be read.
$context = stream_context_create(['http' => ['timeout' => 5, 'ignore_errors' => true]]);
$answer = @file_get_contents('http://127.0.0.1:4440/', false, $context);
if ($answer === false) {
    unhealthy('the server does not answer');
}
if (trim($answer) !== 'well') {
    unhealthy(trim(substr($answer, 0, 200)));
}

// TLS answers on 444 with a certificate that those who connect will accept: ours, for this name, and not expired.
$keys = getenv('KEYS') ?: '/keys';
$context = stream_context_create(['ssl' => [
    'cafile' => "$keys/inside-ca.crt",
    'peer_name' => 'httpd',
    'verify_peer' => true,
    'verify_peer_name' => true,
    'capture_peer_cert' => true,
]]);
$reasons = [];
set_error_handler(function (int $level, string $reason) use (&$reasons): bool {
    $reasons[] = $reason;
    return true;
});
$connection = stream_socket_client('tls://127.0.0.1:444', $code, $message, 5, STREAM_CLIENT_CONNECT, $context);
restore_error_handler();
if ($connection === false) {
    // The first warning is the cause; OpenSSL's own words stand in its last line.
    $lines = explode("\n", trim($reasons[0] ?? $message));
    unhealthy('TLS on 444: ' . substr(end($lines), 0, 200));
}

// What the server shows is what is mounted now: otherwise it was not started again after the keys changed.
$shown = stream_context_get_params($connection)['options']['ssl']['peer_certificate'];
fclose($connection);
$mounted = openssl_x509_read((string) file_get_contents("$keys/inside-server.crt"));
if ($mounted === false || openssl_x509_fingerprint($shown, 'sha256') !== openssl_x509_fingerprint($mounted, 'sha256')) {
    unhealthy('the server still shows the certificate of before');
}

// The application reaches its database, with its own account and over TLS. Its own words say what is missing.
if (is_file('/app/bin/annuaire')) {
    $process = proc_open(
        ['timeout', '5', PHP_BINARY, '/app/bin/annuaire', 'health'],
        [1 => ['pipe', 'w'], 2 => ['redirect', 1]],
        $pipes,
        '/',
    );
    $said = $process === false ? '' : (string) stream_get_contents($pipes[1]);
    if ($process === false || proc_close($process) !== 0) {
        unhealthy('the application: ' . trim(substr($said, 0, 200)));
    }
}
