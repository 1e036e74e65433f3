<?php
// A stand-in for the site: its login page, and CiviCRM's page that says who somebody is, with the rules of the extension authx.

use StandIn\CiviCRM;
use StandIn\Drupal;

require __DIR__ . '/core/stand-in.php';

function answer(int $status, string $text): never
{
    http_response_code($status);
    header('Content-Type: text/plain; charset=utf-8');
    echo $text;
    exit;
}

if (!class_exists('Symfony\Component\HttpFoundation\Request')) {
    eval('namespace Symfony\Component\HttpFoundation; class Request { const HEADER_X_FORWARDED_FOR = 2; const HEADER_X_FORWARDED_HOST = 4; const HEADER_X_FORWARDED_PROTO = 8; }');
}
try {
    Drupal::boot();
    // A proxy whose word counts says which host was asked.
    $trusted = (Drupal::$settings['reverse_proxy'] ?? false) && in_array($_SERVER['REMOTE_ADDR'], Drupal::$settings['reverse_proxy_addresses'], true);
    $host = $trusted && isset($_SERVER['HTTP_X_FORWARDED_HOST']) ? $_SERVER['HTTP_X_FORWARDED_HOST'] : $_SERVER['HTTP_HOST'];
    $name = preg_replace('/:\d+$/', '', $host);
    $known = array_filter(Drupal::$settings['trusted_host_patterns'], fn ($pattern) => preg_match("{{$pattern}}i", $name));
    $known !== [] || answer(400, "The provided host name is not valid for this server: $name\n");
    $site = Drupal::rows("SELECT value FROM config WHERE name = 'name'")[0]['value'];
    $path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
    if ($path !== '/civicrm/authx/id') {
        answer(200, "$site ($path, $host)\n");
    }
    CiviCRM::boot();
    $header = $_SERVER['HTTP_AUTHORIZATION'] ?? '';
    if ($header === '') {
        answer(200, '{"contact_id":null,"user_id":null}');
    }
    in_array('pass', Civi::settings()->get('authx_header_cred') ?? [], true) || answer(401, 'HTTP 401 Authentication type "pass" with flow "header" is not allowed for this principal.');
    [$user, $password] = explode(':', base64_decode(substr($header, 6)), 2) + [1 => ''];
    $row = Drupal::rows('SELECT * FROM users WHERE name = ? AND status = 1', [$user])[0] ?? null;
    $row !== null && password_verify($password, $row['pass']) || answer(401, 'HTTP 401 Invalid credential');
    (int) $row['uid'] === 1 || answer(401, 'HTTP 401 Login not permitted. Must satisfy guard (site_key, perm).');
    $contact = CiviCRM::rows('SELECT contact_id FROM civicrm_uf_match WHERE uf_id = ?', [$row['uid']])[0]['contact_id'] ?? null;
    $contact !== null || answer(401, 'HTTP 401 Cannot login. Failed to determine contact ID.');
    answer(200, json_encode(['contact_id' => (int) $contact, 'user_id' => (int) $row['uid']]));
} catch (Throwable $error) {
    error_log($error->getMessage());
    answer(500, "The website encountered an unexpected error.\n");
}
