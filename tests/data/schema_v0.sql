-- The schema as the station's Python daemon made it.
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
