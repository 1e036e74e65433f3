<?php
// What `civicrm.settings.php` of the volume reads first: where CiviCRM finds its databases and under which address it is reached. It comes
// with the image and follows the environment, as Drupal's settings do; so no password stays in a file of the site, and another name or
// port of the server is changed in one place. What is defined here counts; the file that CiviCRM made keeps its keys and its folders.
(static function (): void {
    global $civicrm_setting;
    $keys = getenv('KEYS') ?: '/keys';
    $dsn = static fn (string $database): string => sprintf(
        'mysql://civiparoisse:%s@%s:%s/%s?new_link=true&ca=%s',
        rawurlencode(trim((string) file_get_contents("$keys/db-app"))),
        getenv('DB_HOST') ?: 'db',
        getenv('DB_PORT') ?: '3306',
        $database,
        rawurlencode("$keys/database-ca.crt"),
    );
    $port = getenv('PORT') ?: '443';
    foreach ([
        'CIVICRM_UF_DSN' => $dsn('drupal'),
        'CIVICRM_DSN' => $dsn('civicrm'),
        // Who changed what is written down in a database of its own.
        'CIVICRM_LOGGING_DSN' => $dsn('civilog'),
        'CIVICRM_UF_BASEURL' => 'https://' . (getenv('SERVER_NAME') ?: 'localhost') . ($port === '443' ? '' : ":$port"),
    ] as $name => $value) {
        defined($name) || define($name, $value);
    }
    // Code is part of the image: nobody installs any through a page.
    $civicrm_setting['domain']['ext_repo_url'] = false;
})();
