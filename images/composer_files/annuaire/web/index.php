<?php

// The one page that the web server runs: every address leads here.

declare(strict_types=1);

require dirname(__DIR__) . '/vendor/autoload.php';

Annuaire\Application::serve();
