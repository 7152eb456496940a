"""placeholder"""
def read_shards(path, data):
    raise NotImplementedError
