<?php
// Tells CiviCRM's installation where its database, its address and its language are. The password comes from its file and is written into
// the settings that are made here; `init` takes it out again, for they read it from its file.
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
    $model->cmsBaseUrl = 'https://' . (getenv('SERVER_NAME') ?: 'localhost') . ':' . (getenv('PORT') ?: '443') . '/';
    // Made of the address that a command line has, which is none. Without it CiviCRM makes it of the site's.
    $paths = $model->paths;
    unset($paths['civicrm.files']['url']);
    $model->paths = $paths;
    $model->siteKey = $model->siteKey ?: bin2hex(random_bytes(16));
    // It would fetch translations, and there is no way to a server of them: what the image has is used.
    $model->moFiles = [];
    $model->lang = getenv('CIVICRM_LANG') ?: 'en_US';
    if ($model->lang !== 'en_US') {
        $paths = $model->paths;
        $paths['civicrm.l10n']['path'] = '/app/l10n';
        $model->paths = $paths;
    }
}, \Civi\Setup::PRIORITY_LATE);
