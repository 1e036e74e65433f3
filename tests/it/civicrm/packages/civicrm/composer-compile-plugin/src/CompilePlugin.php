<?php
// A stand-in: calls the methods that `extra.compile` of packages names, each in a program of its own, where the project allows all.

namespace Civi\CompilePlugin;

use Composer\Composer;
use Composer\EventDispatcher\EventSubscriberInterface;
use Composer\IO\IOInterface;
use Composer\Plugin\PluginInterface;
use Composer\Script\Event;

class CompilePlugin implements PluginInterface, EventSubscriberInterface
{
    public function activate(Composer $composer, IOInterface $io) {}
    public function deactivate(Composer $composer, IOInterface $io) {}
    public function uninstall(Composer $composer, IOInterface $io) {}

    public static function getSubscribedEvents()
    {
        return ['post-install-cmd' => 'compile'];
    }

    public function compile(Event $event)
    {
        $composer = $event->getComposer();
        if (($composer->getPackage()->getExtra()['compile-mode'] ?? 'prompt') !== 'all') {
            throw new \Exception('nobody is here to be asked whether to compile');
        }
        $autoload = realpath($composer->getConfig()->get('vendor-dir') . '/autoload.php');
        foreach ($composer->getRepositoryManager()->getLocalRepository()->getPackages() as $package) {
            foreach ($package->getExtra()['compile'] ?? [] as $task) {
                $code = 'require ' . var_export($autoload, true) . '; ' . $task['php-method'] . '(' . var_export($task, true) . ');';
                $command = 'cd ' . escapeshellarg($composer->getInstallationManager()->getInstallPath($package)) . ' && ' . PHP_BINARY . ' -r ' . escapeshellarg($code);
                passthru($command, $status);
                if ($status !== 0) {
                    throw new \Exception("compile: $task[title] failed");
                }
            }
        }
    }
}
