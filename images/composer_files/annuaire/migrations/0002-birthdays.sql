-- What the periodic job found: who has a birthday within the coming seven days.
CREATE TABLE IF NOT EXISTS birthdays (
    person INT UNSIGNED PRIMARY KEY,
    falls_on DATE NOT NULL,
    age SMALLINT UNSIGNED NOT NULL,
    KEY by_day (falls_on),
    CONSTRAINT birthdays_person FOREIGN KEY (person) REFERENCES people (id) ON DELETE CASCADE
);
