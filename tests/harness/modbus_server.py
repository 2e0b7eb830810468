"""A Modbus server for the tests: modbus_server.py tcp PORT | rtu DEVICE. Registers are zero until a client writes them;
unit 1 only. Discrete inputs and input registers mirror nothing: they count 0, 1, 2, ... by address."""

import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server import StartSerialServer, StartTcpServer
from pymodbus.transaction import ModbusRtuFramer


def main():
    store = ModbusSlaveContext(
        di=ModbusSequentialDataBlock(0, [i % 2 for i in range(2000)]), co=ModbusSequentialDataBlock(0, [0] * 2000),
        ir=ModbusSequentialDataBlock(0, list(range(2000))), hr=ModbusSequentialDataBlock(0, [0] * 2000), zero_mode=True)
    context = ModbusServerContext(slaves={1: store}, single=False)
    if sys.argv[1] == "tcp":
        StartTcpServer(context=context, address=("127.0.0.1", int(sys.argv[2])))
    else:
        StartSerialServer(context=context, framer=ModbusRtuFramer, port=sys.argv[2], baudrate=9600, timeout=0.05)


if __name__ == "__main__":
    main()
