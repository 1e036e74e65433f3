<?php
// Gives the first account its password, from its file. Run by `drush php:script`.
$password = trim((string) file_get_contents((getenv('KEYS') ?: '/keys') . '/site-admin'));
if ($password === '') {
    throw new RuntimeException('the file site-admin is empty');
}
$account = \Drupal\user\Entity\User::load(1);
$account->setPassword($password);
$account->activate()->save();
echo "the first administrator is there\n";
