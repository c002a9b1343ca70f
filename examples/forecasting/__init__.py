"""Daily returns of markets, forecast one day ahead by one model of several series, compared with GARCH."""
