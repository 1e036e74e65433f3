<?php
// Drupal's settings. Everything that differs from place to place comes from the environment, and every password from its file.
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
$settings['hash_salt'] = trim((string) file_get_contents('/app/private/salt'));
$settings['file_private_path'] = '/app/private';
$settings['file_temp_path'] = '/tmp';
$settings['config_sync_directory'] = '/app/private/config';
$settings['update_free_access'] = false;
// Code is part of the image: nobody installs any through a page.
$settings['allow_authorize_operations'] = false;
$settings['file_chmod_directory'] = 0770;
$settings['file_chmod_file'] = 0660;
$name = getenv('SERVER_NAME') ?: 'localhost';
$settings['trusted_host_patterns'] = ['^' . preg_quote($name) . '$', '^localhost$', '^httpd$', '^127\.0\.0\.1$'];
// Only the proxy reaches this server, and it replaces what a browser claims.
if (($_SERVER['SSL_CLIENT_S_DN_CN'] ?? '') === 'proxy') {
    $settings['reverse_proxy'] = true;
    $settings['reverse_proxy_addresses'] = [$_SERVER['REMOTE_ADDR']];
}
