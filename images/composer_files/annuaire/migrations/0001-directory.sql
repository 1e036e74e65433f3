-- The directory, its accounts, and what the application remembers of itself.
CREATE TABLE IF NOT EXISTS settings (
    name VARCHAR(40) PRIMARY KEY,
    value VARCHAR(200) NOT NULL
);

CREATE TABLE IF NOT EXISTS users (
    login VARCHAR(60) CHARACTER SET ascii PRIMARY KEY,
    hash VARCHAR(255) CHARACTER SET ascii NOT NULL,
    role ENUM('reader', 'editor', 'administrator') NOT NULL,
    mail VARCHAR(200) NOT NULL DEFAULT '',
    created_at DATETIME NOT NULL
);

-- Failed attempts to log in, by visitor's address and by login from that address.
CREATE TABLE IF NOT EXISTS attempts (
    subject BINARY(32) PRIMARY KEY,
    failures INT UNSIGNED NOT NULL,
    last_at DATETIME NOT NULL
);

CREATE TABLE IF NOT EXISTS households (
    id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    street VARCHAR(200) NOT NULL DEFAULT '',
    postcode VARCHAR(12) NOT NULL DEFAULT '',
    town VARCHAR(100) NOT NULL DEFAULT '',
    KEY by_name (name)
);

CREATE TABLE IF NOT EXISTS people (
    id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
    household INT UNSIGNED NULL,
    first_name VARCHAR(80) NOT NULL,
    last_name VARCHAR(80) NOT NULL,
    born_on DATE NULL,
    phone VARCHAR(30) NOT NULL DEFAULT '',
    mail VARCHAR(200) NOT NULL DEFAULT '',
    KEY by_name (last_name, first_name),
    CONSTRAINT people_household FOREIGN KEY (household) REFERENCES households (id) ON DELETE SET NULL
);

CREATE TABLE IF NOT EXISTS teams (
    id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    UNIQUE KEY by_name (name)
);

CREATE TABLE IF NOT EXISTS memberships (
    person INT UNSIGNED NOT NULL,
    team INT UNSIGNED NOT NULL,
    PRIMARY KEY (person, team),
    CONSTRAINT memberships_person FOREIGN KEY (person) REFERENCES people (id) ON DELETE CASCADE,
    CONSTRAINT memberships_team FOREIGN KEY (team) REFERENCES teams (id) ON DELETE CASCADE
);
