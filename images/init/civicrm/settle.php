<?php
// Contacts of accounts, roles and mail. Run by `drush php:script` after CiviCRM is installed; the second run changes nothing.
\Drupal::service('civicrm')->initialize();

// Logging in by HTTP Basic is what the proxy asks for: /civicrm/authx/id.
\Civi::settings()->set('authx_header_cred', ['pass']);
\Civi::settings()->set('authx_header_user', 'require');

// An account whose contact CiviCRM does not know is let in by nobody, and the administrator could not be made known from inside.
\CRM_Core_Config::singleton()->userSystem->synchronizeUsers();

$known = array_keys(\Drupal::service('user.permissions')->getPermissions());
foreach (['secretariat' => 'Secrétariat', 'conseil' => 'Conseil presbytéral'] as $id => $label) {
    if (!\Drupal\user\Entity\Role::load($id)) {
        $role = \Drupal\user\Entity\Role::create(['id' => $id, 'label' => $label]);
        $permissions = ['access CiviCRM', 'view all contacts', 'access AJAX API', 'authenticate with password'];
        if ($id === 'secretariat') {
            array_push($permissions, 'edit all contacts', 'add contacts', 'access uploaded files');
        }
        // One that this version does not have would be refused, and the role with it.
        foreach (array_diff($permissions, $known) as $permission) {
            echo "note: the role `$id` is made without the permission `$permission`, which does not exist\n";
        }
        foreach (array_intersect($permissions, $known) as $permission) {
            $role->grantPermission($permission);
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
