-- The schema as version 1 of the hub made it.

CREATE TABLE IF NOT EXISTS weather_data (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  timestamp INTEGER NOT NULL,
  sample_interval INTEGER,
  temperature REAL,
  humidity REAL,
  pressure REAL,
  irradiance REAL,
  wind_direction INTEGER,
  rain_gauge_count INTEGER,
  anemometer_count INTEGER,
  created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE IF NOT EXISTS magnetic_flux_data (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  x REAL NOT NULL,
  y REAL NOT NULL,
  z REAL NOT NULL,
  created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS idx_weather_timestamp ON weather_data(timestamp);
CREATE INDEX IF NOT EXISTS idx_weather_created ON weather_data(created_at);
CREATE INDEX IF NOT EXISTS idx_flux_created ON magnetic_flux_data(created_at);
ALTER TABLE weather_data ADD COLUMN source_id INTEGER;
ALTER TABLE weather_data ADD COLUMN received_ms INTEGER;
ALTER TABLE weather_data ADD COLUMN marks INTEGER;
ALTER TABLE magnetic_flux_data ADD COLUMN source_id INTEGER;
ALTER TABLE magnetic_flux_data ADD COLUMN received_ms INTEGER;
ALTER TABLE magnetic_flux_data ADD COLUMN marks INTEGER;
CREATE TABLE IF NOT EXISTS source (
  id INTEGER PRIMARY KEY,
  topic TEXT NOT NULL UNIQUE,
  first_seen_ms INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS quarantine (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  received_ms INTEGER NOT NULL,
  topic TEXT NOT NULL,
  client_id TEXT NOT NULL,
  qos INTEGER NOT NULL,
  reason TEXT NOT NULL,
  detail TEXT NOT NULL,
  payload BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS delivery (
  id INTEGER PRIMARY KEY,
  client_id TEXT NOT NULL,
  marks BLOB NOT NULL
);
PRAGMA user_version = 1;
