<?php
// Tells CiviCRM's installation where its database is. The password comes from its file.
if (!defined('CIVI_SETUP')) {
    exit("not to be run by itself\n");
}
\Civi\Setup::dispatcher()->addListener('civi.setup.init', function ($event) {
    $keys = getenv('KEYS') ?: '/keys';
    $model = $event->getModel();
    $model->db = [
        'server' => (getenv('DB_HOST') ?: 'db') . ':' . (getenv('DB_PORT') ?: '3306'),
        'username' => 'civiparoisse',
        'password' => trim((string) file_get_contents("$keys/db-app")),
        'database' => 'civicrm',
        'ssl_params' => ['ca' => "$keys/database-ca.crt"],
    ];
    $model->siteKey = $model->siteKey ?: bin2hex(random_bytes(16));
}, \Civi\Setup::PRIORITY_LATE);
