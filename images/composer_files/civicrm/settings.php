<?php
// Drupal's settings, which `sites/default/settings.php` of the volume reads: they come with the image and change with it. Everything that
// differs from place to place comes from the environment, and every password from its file.
$keys = getenv('KEYS') ?: '/keys';
$databases['default']['default'] = [
    'driver' => 'mysql',
    'host' => getenv('DB_HOST') ?: 'db',
    'port' => getenv('DB_PORT') ?: '3306',
    'database' => 'drupal',
    'username' => 'civiparoisse',
    'password' => trim((string) file_get_contents("$keys/db-app")),
    'prefix' => '',
    'collation' => 'utf8mb4_unicode_ci',
    'init_commands' => ['isolation_level' => 'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED'],
    'pdo' => [
        PDO::MYSQL_ATTR_SSL_CA => "$keys/database-ca.crt",
        PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => true,
    ],
];
// CiviCRM's module looks for a connection of this name when it asks what its database needs.
$databases['civicrm']['default'] = ['database' => 'civicrm'] + $databases['default']['default'];
$settings['hash_salt'] = trim((string) @file_get_contents('/app/private/salt'));
if ($settings['hash_salt'] === '') {
    throw new RuntimeException('/app/private/salt is not there: the site is not installed');
}
$settings['file_private_path'] = '/app/private';
$settings['file_temp_path'] = '/tmp';
$settings['config_sync_directory'] = '/app/private/config';
$settings['update_free_access'] = false;
// Code is part of the image: nobody installs any through a page.
$settings['allow_authorize_operations'] = false;
$settings['file_chmod_directory'] = 0770;
$settings['file_chmod_file'] = 0660;
// Modes are those of `site-modes`.
$settings['skip_permissions_hardening'] = true;
// Translations come with the image: there is no way to a server of them.
$config['locale.settings']['translation']['use_source'] = 'local';
$name = getenv('SERVER_NAME') ?: 'localhost';
$settings['trusted_host_patterns'] = ['^' . preg_quote($name, '{') . '$', '^localhost$', '^httpd$', '^127\.0\.0\.1$'];
// Only the proxy reaches this server, and it replaces what a browser claims.
if (($_SERVER['SSL_CLIENT_S_DN_CN'] ?? '') === 'proxy') {
    $settings['reverse_proxy'] = true;
    $settings['reverse_proxy_addresses'] = [$_SERVER['REMOTE_ADDR']];
    // What it says itself, and nothing else that a browser could add.
    $settings['reverse_proxy_trusted_headers'] = \Symfony\Component\HttpFoundation\Request::HEADER_X_FORWARDED_FOR
        | \Symfony\Component\HttpFoundation\Request::HEADER_X_FORWARDED_HOST
        | \Symfony\Component\HttpFoundation\Request::HEADER_X_FORWARDED_PROTO;
}
