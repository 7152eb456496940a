"""No pickle runs code, however it asks: a file that would appear does not."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile

import h5py
import numpy as np
import pytest

from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.files import read_checkpoint
from tests.convert.files import samples
from tests.convert.files.limits import limited, measured_child, measured_peak
from tests.convert.files.pickle_writer import (
    Call,
    Name,
    Persistent,
    Raw,
    pickled,
    unicode,
)

HARMLESS = "argparse.Namespace"


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


def command(canary):
    return f"touch {canary}"


def protocol4(value):
    """The protocol in which Python follows dots in names."""
    return b"\x80\x04" + pickled(value)[2:]


def stack_global(module, name):
    """Protocol 4's way to name something."""
    return Raw(unicode(module) + unicode(name) + b"\x93")


def called(function, *arguments):
    """REDUCE of a function given by opcodes."""
    parts = b"".join(pickled(part)[2:-1] for part in arguments)
    return Raw(function.opcodes + b"(" + parts + b"tR")


def attacks(canary):
    """`{description: value}`: each makes the canary if Python's pickle reads it."""
    shell, code = command(canary), f"open({str(canary)!r}, 'w').close()"
    text, posix = unicode(shell), Name("posix.system")
    return {
        "os.system": Call("os.system", (shell,)),
        "posix.system": Call("posix.system", (shell,)),
        "eval": Call("builtins.eval", (code,)),
        "exec of Python 2's name": Call("__builtin__.eval", (code,)),
        "subprocess": Call("subprocess.check_call", (shell.split(),)),
        "runpy": Call("runpy._run_code", (code, {})),
        "getattr": Raw(
            b"cbuiltins\ngetattr\n(cos\n__dict__\n"
            + unicode("get")
            + b"tR("
            + unicode("system")
            + b"tR("
            + text
            + b"tR"
        ),
        "dotted name": called(stack_global("numpy", "f2py.os.system"), shell),
        "dotted name in an allowed class": called(
            stack_global("collections", "abc.sys.modules.get"), "os"
        ),
        "INST": Raw(b"(" + text + b"iposix\nsystem\n"),
        "OBJ": Raw(b"(cposix\nsystem\n" + text + b"o"),
        "NEWOBJ": Raw(
            b"csubprocess\nPopen\n(" + pickled(shell.split())[2:-1] + b"t\x81"
        ),
        "NEWOBJ_EX": Raw(
            b"csubprocess\nPopen\n(" + pickled(shell.split())[2:-1] + b"t}\x92"
        ),
        "deep inside": {"blobs": {"a": [(1, Call("os.system", (shell,)))]}},
        "as a dict's key": Raw(
            b"}" + pickled(Call("os.system", (shell,)))[2:-1] + b"Ns"
        ),
        "through map": Call("builtins.list", (Call("builtins.map", (posix, [shell])),)),
        "through defaultdict": Call("functools.partial", (posix, shell)),
        "nested pickle": Call("pickle.loads", (pickled(Call("os.system", (shell,))),)),
        "in an array of objects": np_objects(Call("os.system", (shell,))),
        "in a state": Call(HARMLESS, (), {"a": Call("os.system", (shell,))}),
        "torch's rebuild": Call(
            "torch._tensor._rebuild_from_type_v2", (posix, Name(HARMLESS), (shell,), {})
        ),
        "torch.load": Call("torch.load", (str(canary),)),
        "numpy.load": Call("numpy.load", (str(canary), None, True)),
        "written by numpy": Call("numpy.savetxt", (str(canary), [1, 2])),
    }


def np_objects(value):
    return Call(
        "numpy.core.multiarray._reconstruct",
        (Name("numpy.ndarray"), (0,), b"b"),
        (1, (1,), Call("numpy.dtype", ("O8", False, True)), False, [value]),
    )


ATTACKS = sorted(attacks("x"))
RUN_BY_PYTHON = ["os.system", "eval", "INST", "OBJ", "deep inside", "dotted name"]


def in_every_format():
    """All as a pickle; in torch's files, which are read by the same, a few."""
    for attack in ATTACKS:
        for kind in ("pickle", "torch_zip", "torch_legacy"):
            rare = kind != "pickle" and attack not in RUN_BY_PYTHON
            yield pytest.param(attack, kind, marks=[pytest.mark.slow] * rare)


@pytest.mark.parametrize("attack, kind", in_every_format())
def test_attacks_are_refused_and_nothing_runs(attack, kind, canary, tmp_path):
    value = attacks(canary)[attack]
    data = {
        "pickle": lambda: protocol4(value),
        "torch_zip": lambda: samples.torch_zip({}, value),
        "torch_legacy": lambda: samples.torch_legacy({}, value),
    }[kind]()
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="refused|unknown function") as error:
        read_checkpoint(path)
    assert "model.safetensors" in str(error.value)
    assert not canary.exists()


@pytest.mark.parametrize("attack", RUN_BY_PYTHON)
def test_the_same_attacks_succeed_against_python(attack, canary):
    """Else the tests above would prove nothing."""
    pickle.loads(protocol4(attacks(canary)[attack]))
    assert canary.exists()


class Exploit:
    """As a user's own malicious class is pickled."""

    def __init__(self, shell):
        self.shell = shell

    def __reduce__(self):
        import os

        return os.system, (self.shell,)


@pytest.mark.parametrize("protocol", range(6))
def test_reduce_of_a_class_is_refused_and_named(protocol, canary, tmp_path):
    data = pickle.dumps({"blobs": [Exploit(command(canary))]}, protocol)
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"'(posix|nt)\.system'"):
        read_checkpoint(tmp_path / "x.pkl")
    assert not canary.exists()


def wrappings(data):
    return {
        "gzip": gzip.compress(data),
        "gzip of gzip": gzip.compress(gzip.compress(data)),
        "tar": samples.tarred({"../../x.pkl": data}),
        "tar.gz": samples.tarred({"x.pkl": data}, "w:gz"),
        "zip": samples.zipped({"x.pkl": data}),
    }


@pytest.mark.parametrize("wrapping", wrappings(b""))
def test_wrapped_attacks_are_refused(wrapping, canary, tmp_path):
    data = pickled(Call("os.system", (command(canary),)))
    (tmp_path / "x").write_bytes(wrappings(data)[wrapping])
    with pytest.raises(CheckpointError, match=r"'os\.system'"):
        read_checkpoint(tmp_path / "x")
    assert not canary.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]  # nothing unpacked


def test_a_storage_within_a_pickle_is_guarded(canary, tmp_path):
    exploit = samples.torch_legacy({}, Call("os.system", (command(canary),)))
    call = Call("torch.storage._load_from_bytes", (exploit,))
    (tmp_path / "x").write_bytes(pickled(call))
    with pytest.raises(CheckpointError, match=r"'os\.system'"):
        read_checkpoint(tmp_path / "x")
    assert not canary.exists()


@pytest.mark.parametrize("part", range(4))
def test_every_part_of_a_legacy_file_is_guarded(part, canary, tmp_path):
    exploit = pickled(Call("os.system", (command(canary),)))
    parts = [pickled(part) for part in (1001, {}, {}, [])]
    parts[part] = exploit
    magic = samples.torch_legacy({})[:15]
    (tmp_path / "x").write_bytes(magic + b"".join(parts))
    with pytest.raises(CheckpointError, match=r"'os\.system'"):
        read_checkpoint(tmp_path / "x")
    assert not canary.exists()


NAMES = (
    *("os.system", "os.popen", "builtins.exec", "builtins.__import__", "sys.exit"),
    *("keras.models.load_model", "keras.layers.Lambda", "numpy.f2py.compile"),
    *("numpy.load", "importlib.import_module", "operator.attrgetter", "ctypes.CDLL"),
    *("copyreg.add_extension", "functools.partial", "shutil.rmtree", "socket.socket"),
    *("keras_nonlocal.convert.load_weights", "child.limits.restrict", "torch.load"),
    *("collections.OrderedDict.fromkeys", "argparse.Namespace.__init__", "__main__.x"),
)


def test_names_of_code_are_refused(tmp_path):
    """Written in both ways that pickles have, by turns."""
    for number, name in enumerate(NAMES):
        module, _, function = name.rpartition(".")
        named = Name(name) if number % 2 else stack_global(module, function)
        (tmp_path / "x").write_bytes(protocol4(named))
        with pytest.raises(CheckpointError, match=f"refused.*{name!r}: code"):
            read_checkpoint(tmp_path / "x")


STATES = {
    "setstate": {"__setstate__": Name("argparse.Namespace"), "__class__": 1},
    "items": {"update": 1, "build": 2, "call": 3, "__reduce__": 4},
}


@pytest.mark.parametrize("state", STATES)
def test_states_cannot_change_what_a_stand_in_does(state, tmp_path):
    """BUILD fills dict entries, never attributes, so a second BUILD is as before."""
    record = Call(HARMLESS, (), STATES[state])
    again = Raw(pickled(record)[2:-1] + pickled({"lr": 1})[2:-1] + b"b")
    (tmp_path / "x").write_bytes(pickled(again))
    content = read_checkpoint(tmp_path / "x").content
    assert content["lr"] == 1 and set(STATES[state]) < set(content)


REFUSED = {
    "called number": Raw(b"K\x01)R"),
    "called type that may only be named": Raw(b"cnumpy\nndarray\n)R"),
    "state of a list": Raw(b"]}b"),
    "getattr of a dict": Call("builtins.getattr", ({}, "get")),
    "getattr of a class": Call(
        "builtins.getattr", (Name("collections.OrderedDict"), "fromkeys")
    ),
    "encode by another codec": Call("_codecs.encode", ("x", "rot13")),
    "extension": Raw(b"\x82\x01"),
    "extension of 4 bytes": Raw(b"\x84\x01\0\0\0"),
    "state of a class": Raw(
        f"c{HARMLESS.replace('.', chr(10))}\nN}}".encode()
        + unicode("__setstate__")
        + b"cbuiltins\ngetattr\ns\x86b"
    ),
    "state of a function": Raw(
        b"cbuiltins\ngetattr\nN}" + unicode("call") + b"cbuiltins\nlist\ns\x86b"
    ),
    "class of a class": Raw(
        b"cbuiltins\nset\nN}" + unicode("__class__") + b"cbuiltins\nlist\ns\x86b"
    ),
    "buffer outside": Raw(b"\x97"),
    "persistent id": Persistent(("storage", 1)),
    "keywords": Raw(b"cargparse\nNamespace\n)}" + unicode("a") + b"K\x01s\x92"),
    "structured array": Call("numpy.dtype", ("V8", False, True)),
    "sparse tensor": Call("torch._utils._rebuild_sparse_tensor", ()),
    "reconstructed object": Call(
        "copyreg._reconstructor", (Name("collections.OrderedDict"), None, None)
    ),
    "list as a key": Raw(b"}]Ns"),
    "colliding keys": Raw(b"}L" + str(2**61 - 1).encode() + b"L\nNs"),
    "bare array": Call("numpy.core.multiarray._reconstruct", ()),
    "underflow": Raw(b"0"),
    "mark underflow": Raw(b"t"),
    "memo": Raw(b"h\x07"),
    "itself": Raw(b"]q\x00h\x00a"),
    "tensor of what is no storage": Call(
        "torch._utils._rebuild_tensor_v2",
        (
            Call("torch.storage._load_from_bytes", (samples.torch_legacy({}, {}),)),
            *(0, (1,), (1,)),
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_odd_pickles_are_refused(name, tmp_path):
    (tmp_path / "x").write_bytes(pickled(REFUSED[name]))
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "x")


# === Memory and time ===


def array_of(shape, data=b""):
    dtype = Call("numpy.dtype", ("f4", 0, 1), (3, "<", None, None, None, -1, -1, 0))
    return Call("numpy.core.multiarray._reconstruct", (), (1, shape, dtype, 0, data))


def laughs(depth=60):
    """[[x, x], [x, x]] with 2^60 leaves in half a kilobyte."""
    return Raw(b"K\x01" + b"".join(b"q%c0](h%ch%ce" % (i, i, i) for i in range(depth)))


def doubled_list(depth=60):
    """`laughs`, in few enough bytes to be an argument."""
    return b"]K\x01a" + b"".join(b"q%c0](h%ch%ce" % (i, i, i) for i in range(depth))


def doubled_tuple(depth=60):
    """Hashing or printing it takes 2^60 steps."""
    return b"K\x01\x85" + b"".join(b"q%c0h%ch%c\x86" % (i, i, i) for i in range(depth))


def stored_as(key, size=1):
    """A torch file whose storage has this key."""
    kind = Name("torch.FloatStorage")
    return samples.torch_zip({}, Persistent(("storage", kind, Raw(key), "cpu", size)))


def joined_paths(levels=4):
    """A path of paths of 60 times the same thousand letters."""
    start = b"\x80\x02" + unicode("x" * 1000) + b"q\x000"
    return (
        start
        + b"".join(
            b"cpathlib\nPosixPath\n(" + b"h%c" % i * 60 + b"tRq%c" % (i + 1)
            for i in range(levels)
        )
        + b"."
    )


def numpy_array(shape, code, data=b""):
    return Call(
        "numpy.core.multiarray._reconstruct",
        (),
        (1, shape, Call("numpy.dtype", (code,)), False, data),
    )


PRIMES = 11400714785074694791, 14029467366897019727, 2870177450012600261


def colliding_pairs(count, target=12345678901234567):
    """Pairs of small integers that Python gives the same hash."""
    one, two, start = PRIMES
    inverse, i, found = pow(two, -1, 2**64), 1, []
    while len(found) < count:
        x = (start + i * two) % 2**64
        x = (x << 31 | x >> 33) % 2**64 * one
        other = (target - x) * inverse % 2**64
        other -= 2**64 * (other >= 2**63)
        if abs(other) < 2**60:
            found.append((i, other))
        i += 1
    return found


def colliding_keys(count=20_000):
    pairs = b"".join(pickled(pair)[2:-1] + b"N" for pair in colliding_pairs(count))
    return b"\x80\x02}(" + pairs + b"u."


def colliding_memo(count=60_000):
    """Places in the memo whose numbers have the same hash."""
    puts = b"".join(b"p%d\n" % (k * (2**61 - 1)) for k in range(1, count))
    return b"\x80\x02]" + puts + b"."


def large_states(times=10**6):
    """One state of a million parts, given to an object over and over."""
    state = b"(" + b"N" * 10**6 + b"tq\x000"
    return (
        b"\x80\x02" + state + pickled(Call(HARMLESS))[2:-1] + b"h\x00b" * times + b"."
    )


def large_identity(times=10**5):
    """A storage named by a million parts, over and over."""
    kind = Name("torch.FloatStorage")
    identity = pickled(("storage", kind, "0", "cpu", *[None] * 10**6))[2:-1]
    return samples.torch_zip(
        {"0": np.zeros(1, "f4")}, Raw(identity + b"q\x00Q" + b"0h\x00Q" * times)
    )


def tensor_zip(**changes):
    array = np.zeros(4, "f4")
    return samples.torch_zip({"x": array}, {"x": samples.tensor("0", array, **changes)})


def deflated(name, size):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(size))
    return file.getvalue()


def lying_tar(size):
    data = bytearray(samples.tarred({"x": b""}))
    sign = b"\x80" if size >= 0 else b"\xff"
    data[124:136] = sign + size.to_bytes(11, "big", signed=True)
    return checked(data)


def checked(data):
    """A tar with the checksum of its first header."""
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def shared_bytes(copies=200_000):
    """One megabyte, encoded anew by every five bytes of pickle."""
    encode = b"c_codecs\nencode\nq\x000" + unicode("x" * 2**20) + b"\x85q\x010]("
    return b"\x80\x02" + encode + b"h\x00h\x01R" * copies + b"e."


def again(call, times=10**6):
    """A large tuple, given to the same call over and over."""
    argument = b"(" + b"N" * 10**6 + b"tq\x000"
    return b"\x80\x02" + argument + call + b"q\x010](" + b"h\x01h\x00R" * times + b"e."


def strided_copies(count=5000):
    """A megabyte, transposed by each of many tensors."""
    array = np.zeros((512, 512), "f4")
    one = samples.tensor("0", array, strides=(1, 512))
    opcodes = pickled(one)[2:-1]
    return samples.torch_zip({"x": array}, [Raw(opcodes)] * count)


BOMBS = {
    "name of a method": lambda: pickled(
        Call("builtins.getattr", (Name(HARMLESS), Raw(doubled_list())))
    ),
    "shape": lambda: pickled(numpy_array((1, Raw(doubled_list())), "f4")),
    "dtype": lambda: pickled(numpy_array((1,), Raw(doubled_tuple()))),
    "storage's key hashed": lambda: stored_as(doubled_tuple()),
    "storage's key printed": lambda: stored_as(doubled_list()),
    "legacy key": lambda: (
        samples.torch_legacy({})[:-5] + pickled([Raw(doubled_tuple())])
    ),
    "storage of a tuple": lambda: pickled(
        Call("torch.storage._load_from_bytes", ((Raw(doubled_tuple()),),))
    ),
    "large identity": large_identity,
    "large states": large_states,
    "colliding tuples": colliding_keys,
    "colliding places": colliding_memo,
    "paths": joined_paths,
    "empty texts": lambda: pickled(numpy_array((6 * 10**8,), "S0")),
    "many arguments": lambda: again(b"cargparse\nNamespace\n"),
    "many parts": lambda: again(b"cpathlib\nPosixPath\n"),
    "strided copies": strided_copies,
    "array": lambda: pickled(array_of((10**6, 10**6))),
    "array of 10^400": lambda: pickled(array_of((10**400,))),
    "long string": lambda: b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "long bytes": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "long bytearray": lambda: b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "long number": lambda: b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"1.",
    "decimal number": lambda: b"\x80\x02L" + b"9" * 10**6 + b"L\n.",
    "frame": lambda: b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"]" * 5000,
    "memo": lambda: b"\x80\x02]r\xff\xff\xff\x7fj\xff\xff\xff\x7e.",
    "billion laughs": lambda: pickled(laughs()),
    "deep nesting": lambda: b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
    "deep tuple as a key": lambda: b"\x80\x02})" + b"\x85" * 10**5 + b"Ns.",
    "marks": lambda: b"\x80\x02" + b"(" * 10**7 + b".",
    "copies": shared_bytes,
    "expanded tensor": lambda: tensor_zip(shape=(10**6, 10**6), strides=(0, 0)),
    "tensor beyond": lambda: tensor_zip(shape=(2, 2), strides=(2, 2)),
    "tensor before": lambda: tensor_zip(offset=-4),
    "negative strides": lambda: tensor_zip(strides=(-1,)),
    "gzip": lambda: gzip.compress(bytes(3 * 10**8), 1),
    "gzip twice": lambda: gzip.compress(gzip.compress(bytes(3 * 10**8), 1)),
    "gzip streams": lambda: gzip.compress(b"", mtime=0) * 10**6,
    "zip": lambda: deflated("x.pkl", 3 * 10**8),
    "torch zip": lambda: deflated("archive/data.pkl", 3 * 10**8),
    "tar": lambda: lying_tar(2**60),
    "legacy": lambda: (
        samples.torch_legacy({})[:-8] + pickled(["0"]) + struct.pack("<q", 2**60)
    ),
    "safetensors": lambda: samples.safetensors(
        {"x": np.zeros(2, "f4")}, shape=[10**12]
    ),
    "safetensors header of lists": lambda: gzip.compress(lists_in_safetensors(), 1),
    "zip's table": lambda: gzip.compress(zip_table(10**6), 1),
    "safetensors header": lambda: struct.pack("<Q", 10**8) + b"{" + b"[" * 10**5,
    "hdf5": lambda: hollow_hdf5(),
    "archives": lambda: nested_gzip(),
    "colliding numbers": lambda: (
        b"\x80\x02}("
        + b"".join(pickled(n * (2**61 - 1))[2:-1] + b"N" for n in range(1, 10**5))
        + b"u."
    ),
    "place of 20 digits": lambda: b"\x80\x02]p%d\n." % 2**62,
    "texts": lambda: (
        b"\x80\x02" + unicode("x" * 2**20) + b"q\x000](" + b"h\0" * 10**5 + b"e."
    ),
    "bytes": lambda: (
        b"\x80\x03B"
        + struct.pack("<I", 2**20)
        + bytes(2**20)
        + b"q\x000]("
        + b"h\0" * 10**5
        + b"e."
    ),
    "numbers": lambda: (
        b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b"q\x000](" + b"h\0" * 10**5 + b"e."
    ),
    "tar of negative size": lambda: lying_tar(-512),
    "sparse tar": lambda: sparse_tar(2**40),
    "tar of links": lambda: tar_of_links(),
    "zip of shared bytes": lambda: overlapping_zip(),
    "safetensors of its own length": lambda: struct.pack("<Q", 2**63) + b"{}",
    "hdf5 of groups in themselves": lambda: looped_hdf5(),
}


def tar_of_links():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for kind in (
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.CHRTYPE,
            tarfile.FIFOTYPE,
        ):
            info = tarfile.TarInfo("x.pkl")
            info.type, info.linkname = kind, "/dev/zero"
            info.devmajor, info.devminor = 1, 5
            archive.addfile(info)
    return file.getvalue()


def sparse_tar(size):
    """A file of `size` zeros in the old format of GNU."""
    data = bytearray(samples.tarred({"x": b""}))
    data[156:157] = b"S"
    data[257:265] = b"ustar  \0"
    data[483:495] = b"\x80" + size.to_bytes(11, "big")
    return checked(data)


def overlapping_zip(names=20_000):
    """Many entries for the bytes of one file that unpacks to a megabyte."""
    data = deflated("x.pkl", 2**20)
    table = data.index(b"PK\1\2")
    end = data.index(b"PK\5\6")
    entry = data[table:end]
    many = entry * names
    sizes = struct.pack("<HHL", names, names, len(many))
    return data[:table] + many + data[end : end + 8] + sizes + data[end + 16 :]


def looped_hdf5():
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        group = root.create_group("a")
        for name in "bcdefgh":
            group[name] = group
    return file.getvalue()


def lists_in_safetensors(count=10**7):
    header = b'{"a":[' + b"[]," * count + b"[]]}"
    return struct.pack("<Q", len(header)) + header


def zip_table(count):
    """A zip of nothing but names of files: 47 bytes each."""
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, *[0] * 7, 1, *[0] * 6)
    table = (entry + b"a") * count
    end = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(table), 4
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 4 + len(table), 1)
    old = struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, *[2**16 - 1] * 2, *[2**32 - 1] * 2, 0
    )
    return b"PK\3\4" + table + end + locator + old


def hollow_hdf5():
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        root.create_dataset("x", (10**6, 10**6), "f4", chunks=(1000, 1000))
    return file.getvalue()


def nested_gzip():
    data = pickled({})
    for _ in range(20):
        data = gzip.compress(data)
    return data


def test_the_pairs_that_are_to_collide_do():
    """Else the bomb of them would prove nothing."""
    assert len(set(map(hash, colliding_pairs(5)))) == 1


# Those that run until their time or memory is over take 3 to 6 seconds each; one of
# each is enough here ("legacy key", "numbers").
LONG = (
    *("colliding numbers", "gzip streams", "large identity", "zip of shared bytes"),
    *("zip's table", "colliding tuples", "texts"),
)


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=[pytest.mark.slow] * (x in LONG)) for x in BOMBS]
)
def test_bombs_end_in_an_error_soon(name, tmp_path):
    (tmp_path / "x").write_bytes(BOMBS[name]())
    with (
        limited(seconds=60),
        measured_child() as child,
        measured_peak() as parent,
        pytest.raises(CheckpointError, match="Cannot read '.*x': "),
    ):
        read_checkpoint(tmp_path / "x")
    assert child[0] < 2**30 and parent[0] < 2**26


LOADS = {
    "lists of no texts": lambda: pickled(numpy_array((6 * 10**8, 0), "S5")),
    "sets": lambda: b"\x80\x04" + b"\x8f" * 15 * 10**5 + b".",
    "duplicates": lambda: b"\x80\x02]" + b"2" * 10**7 + b".",
    "marks": lambda: b"\x80\x02" + b"(" * 10**7 + b"N.",
    "one number again and again": lambda: b"\x80\x02K\x01" + b"0K\x01" * 10**6 + b".",
}


@pytest.mark.parametrize("name", LOADS)
def test_what_costs_little_may_load(name, tmp_path):
    (tmp_path / "x").write_bytes(LOADS[name]())
    with limited(seconds=60), measured_child() as child, measured_peak() as parent:
        assert read_checkpoint(tmp_path / "x").content in ([], None, 1, set())
    assert child[0] < 2**30 and parent[0] < 2**26
