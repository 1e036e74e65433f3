<?php
// Roles and mail. Run by `drush php:script` after CiviCRM is installed; the second run changes nothing.
\Drupal::service('civicrm')->initialize();

// Logging in by HTTP Basic is what the proxy asks for: /civicrm/authx/id.
\Civi::settings()->set('authx_header_cred', ['pass']);
\Civi::settings()->set('authx_header_user', 'require');

foreach (['secretariat' => 'Secrétariat', 'conseil' => 'Conseil presbytéral'] as $id => $label) {
    if (!\Drupal\user\Entity\Role::load($id)) {
        $role = \Drupal\user\Entity\Role::create(['id' => $id, 'label' => $label]);
        foreach (['access CiviCRM', 'view all contacts', 'access AJAX API', 'authenticate with password'] as $permission) {
            $role->grantPermission($permission);
        }
        if ($id === 'secretariat') {
            foreach (['edit all contacts', 'add contacts', 'access uploaded files'] as $permission) {
                $role->grantPermission($permission);
            }
        }
        $role->save();
    }
}

// Outgoing mail: a server where one is named, otherwise mail is kept in the database and goes nowhere.
$server = (string) getenv('SMTP_HOST');
\Civi::settings()->set('mailing_backend', $server !== ''
    ? ['outBound_option' => CRM_Mailing_Config::OUTBOUND_OPTION_SMTP, 'smtpServer' => $server,
       'smtpPort' => getenv('SMTP_PORT') ?: '25', 'smtpAuth' => 0]
    : ['outBound_option' => CRM_Mailing_Config::OUTBOUND_OPTION_REDIRECT_TO_DB]);
\Civi::settings()->set('defaultCurrency', 'EUR');

// Who changed what is written down; switching it on makes its tables.
if (!\Civi::settings()->get('logging')) {
    \Civi::settings()->set('logging', 1);
}
echo "roles and mail are set\n";
