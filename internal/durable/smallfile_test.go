package durable_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
)

// formats are the two headers in use: with three zero bytes after the version, and without.
var formats = map[string]durable.Format{
	"with zeros":    {Magic: "TEST", Version: 2, Zeros: 3},
	"without zeros": {Magic: "TEST", Version: 2},
}

// content is a body with a field of each kind.
type content struct {
	a    uint8
	b    uint16
	c    uint32
	d    uint64
	name string
	rest []byte
}

var sample = content{0x01, 0x0203, 0x04050607, 0x08090a0b0c0d0e0f, "name", []byte("rest")}

func (c content) encode() []byte {
	data := binary.BigEndian.AppendUint16([]byte{c.a}, c.b)
	data = binary.BigEndian.AppendUint32(data, c.c)
	data = binary.BigEndian.AppendUint64(data, c.d)
	return append(append(append(data, byte(len(c.name))), c.name...), c.rest...)
}

func (c *content) parse(f *durable.Fields) {
	*c = content{f.Uint8(), f.Uint16(), f.Uint32(), f.Uint64(), f.String8(), f.Bytes(f.Len())}
}

func TestFormatVectors(t *testing.T) {
	const body = "01" + "0203" + "04050607" + "08090a0b0c0d0e0f" + "04" + "6e616d65" + "72657374"
	for name, want := range map[string]string{
		"with zeros":    "5445535402" + "000000" + body + "b03411b9",
		"without zeros": "5445535402" + body + "16c7cbe8",
	} {
		data := formats[name].Append([]byte("before"), sample.encode())
		if got := hex.EncodeToString(data[len("before"):]); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		var c content
		if err := formats[name].Decode(data[len("before"):], c.parse); err != nil ||
			fmt.Sprint(c) != fmt.Sprint(sample) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
		// The body may be given in parts.
		encoded := sample.encode()
		if parts := formats[name].Append(nil, encoded[:5], encoded[5:]); hex.EncodeToString(parts) != want {
			t.Errorf("%s, in two parts: %x", name, parts)
		}
		if empty := formats[name].Append(nil); formats[name].Decode(empty, func(*durable.Fields) {}) != nil {
			t.Errorf("%s: an empty body is refused", name)
		}
	}
}

func TestChecksum(t *testing.T) {
	const check = 0xe3069283 // of "123456789": the check value of CRC-32C
	for _, parts := range [][][]byte{{[]byte("123456789")}, {[]byte("1234"), nil, []byte("56789")}} {
		if got := durable.Checksum(parts...); got != check {
			t.Errorf("%08x, want %08x", got, check)
		}
	}
}

// TestFormatFindsDamage checks that every truncation, every flipped bit and every extra byte is detected, and that the
// error describes it.
func TestFormatFindsDamage(t *testing.T) {
	for name, format := range formats {
		good := format.Append(nil, sample.encode())
		check := func(what string, data []byte, want error) {
			t.Helper()
			err := format.Decode(data, func(f *durable.Fields) { f.Bytes(f.Len()) })
			if !errors.Is(err, want) {
				t.Errorf("%s, %s: %v, want %v", name, what, err, want)
			}
		}
		for n := range good {
			check(fmt.Sprint("cut at ", n), good[:n], durable.ErrDamaged)
		}
		for bit := range 8 * len(good) {
			flipped := bytes.Clone(good)
			flipped[bit/8] ^= 1 << (bit % 8)
			want := durable.ErrDamaged
			if flipped[4] > format.Version { // a newer version may have another checksum, so it is not checked
				want = durable.ErrNewerFormat
			}
			check(fmt.Sprint("bit ", bit), flipped, want)
		}
		check("extra byte", append(bytes.Clone(good), 0), durable.ErrDamaged)
		older := bytes.Clone(good)
		older[4]--
		sum := len(older) - 4
		binary.BigEndian.PutUint32(older[sum:], durable.Checksum(older[:sum]))
		check("older version", older, durable.ErrDamaged)
		check("newer version, cut after the version", []byte("TEST\x03"), durable.ErrNewerFormat)
	}
}

// TestFormatChecksFields checks that a body with a correct checksum and invalid fields is also reported as damaged.
func TestFormatChecksFields(t *testing.T) {
	format := formats["without zeros"]
	encoded := sample.encode()
	for n := range len(encoded) - len(sample.rest) {
		var c content
		err := format.Decode(format.Append(nil, encoded[:n]), c.parse)
		if !errors.Is(err, durable.ErrDamaged) || !strings.Contains(err.Error(), "ends within a field") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	err := format.Decode(format.Append(nil, encoded), func(f *durable.Fields) { f.Uint64() })
	if !errors.Is(err, durable.ErrDamaged) || !strings.Contains(err.Error(), "16 bytes follow its last field") {
		t.Errorf("fields left over: %v", err)
	}
	first := errors.New("first")
	err = format.Decode(format.Append(nil, encoded), func(f *durable.Fields) {
		if f.Failed() {
			t.Error("failed before any field was read")
		}
		f.Fail(first)
		f.Fail(errors.New("second"))
		if !f.Failed() || f.Len() != 0 || f.Uint8() != 0 || f.String8() != "" || f.Bytes(1) != nil {
			t.Error("fields can be read after a failure")
		}
	})
	if !errors.Is(err, durable.ErrDamaged) || !errors.Is(err, first) {
		t.Errorf("a contradiction: %v", err)
	}
}

func TestFormatHeader(t *testing.T) {
	for name, format := range formats {
		header := format.AppendHeader([]byte("x"))[1:]
		if want := "TEST\x02" + strings.Repeat("\x00", format.Zeros); string(header) != want {
			t.Errorf("%s: %q, want %q", name, header, want)
		}
		if err := format.CheckHeader(append(header, "anything"...)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFormatFile checks that errors name the file and the remedy.
func TestFormatFile(t *testing.T) {
	format := durable.Format{Magic: "TEST", Version: 2, Remedy: "delete it"}
	path := filepath.Join(t.TempDir(), "file")
	var c content
	if err := format.Read(path, c.parse); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := format.Write(path, sample.encode()); err != nil {
		t.Fatal(err)
	}
	onlyFile(t, path, string(format.Append(nil, sample.encode())), 0o600)
	if err := format.Read(path, c.parse); err != nil || fmt.Sprint(c) != fmt.Sprint(sample) {
		t.Errorf("%v, %v", c, err)
	}
	for data, want := range map[string]error{
		"TEST\x02": durable.ErrDamaged,
		"TEST\x03": durable.ErrNewerFormat,
	} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		err := format.Read(path, c.parse)
		if !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v, want %v", data, err, want)
		}
		if advice := strings.Contains(err.Error(), "delete it"); advice != errors.Is(want, durable.ErrDamaged) {
			t.Errorf("%q: %v", data, err)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing", "file")
	if err := format.Write(missing, nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("no folder: %v", err)
	}
	if err := format.Read(filepath.Dir(path), c.parse); !errors.Is(err, durable.ErrNotFile) {
		t.Errorf("a folder: %v", err)
	}
}
