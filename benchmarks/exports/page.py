def page(tables, minutes, machine):
    return [str(tables)]
