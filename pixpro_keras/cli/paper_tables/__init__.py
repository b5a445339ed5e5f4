"""The paper's tables as data, and code that runs their jobs and reports the results."""

from pixpro_keras.cli.paper_tables.definition import TableError
from pixpro_keras.cli.paper_tables.scales import SCALES
from pixpro_keras.cli.paper_tables.table1 import TABLE_1
from pixpro_keras.cli.paper_tables.table3 import TABLE_3
from pixpro_keras.cli.paper_tables.table4 import TABLE_4

TABLES = {table.number: table for table in (TABLE_1, TABLE_3, TABLE_4)}

__all__ = ["SCALES", "TABLES", "TableError"]
