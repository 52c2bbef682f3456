from kubegate.cli import main

main()
