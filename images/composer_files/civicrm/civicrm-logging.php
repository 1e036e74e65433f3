<?php
// Where CiviCRM writes down who changed what: a database of its own. `civicrm.settings.php` of the volume reads this first.
if (!defined('CIVICRM_LOGGING_DSN')) {
    $keys = getenv('KEYS') ?: '/keys';
    define('CIVICRM_LOGGING_DSN', sprintf(
        'mysql://civiparoisse:%s@%s:%s/civilog?new_link=true&ca=%s',
        rawurlencode(trim((string) file_get_contents("$keys/db-app"))),
        getenv('DB_HOST') ?: 'db',
        getenv('DB_PORT') ?: '3306',
        rawurlencode("$keys/database-ca.crt"),
    ));
    unset($keys);
}
