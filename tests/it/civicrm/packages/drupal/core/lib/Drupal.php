<?php
class Drupal
{
    const VERSION = '10.6.1';
}
