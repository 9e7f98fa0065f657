-- Run once, when the database is made: MLflow has the first one, Optuna this.
CREATE DATABASE optuna;
