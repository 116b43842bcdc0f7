package folder

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
)

func someHead() chain.Head {
	var tree chain.Tree
	return chain.Head{Height: 5, Hash: chain.Hash{7}, Time: 1_700_000_000_000, Tree: tree.Append(make([]chain.Hash,
		11)...)}
}

// sealed adds the checksum to a file.
func sealed(data []byte) []byte { return binary.BigEndian.AppendUint32(data, durable.Checksum(data)) }

// TestFormats compares the bytes of the small files with their drawings. Each flipped bit and each truncation must be
// detected.
func TestFormats(t *testing.T) {
	head, list := someHead(), []chain.Range{{From: 3, To: 5}, {From: 9, To: 10}}
	d := Dir(t.TempDir())
	if err := os.Mkdir(d.Tiles(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteSynced(head); err != nil {
		t.Fatal(err)
	}
	synced, err := os.ReadFile(filepath.Join(string(d), "tiles", "synced"))
	if err != nil {
		t.Fatal(err)
	}
	lost := []byte("CSLO\x01\x00\x00\x00")
	for _, r := range list {
		lost = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(lost, r.From), r.To)
	}
	ticket := sha256Of("ticket")
	for _, row := range []struct {
		name      string
		got, want []byte
		decode    func([]byte) (any, error)
		value     any
	}{
		{"synced", synced, head.AppendTo([]byte("CSTS\x01\x00\x00\x00")), func(b []byte) (v any, err error) {
			err = syncedFormat.Decode(b, func(f *durable.Fields) { v = parseSynced(f) })
			return v, err
		}, head},
		{"lost", EncodeLost(list), lost, func(b []byte) (v any, err error) {
			err = lostFormat.Decode(b, func(f *durable.Fields) { v = parseLost(f) })
			return v, err
		}, list},
		{"repair", EncodeTicket("ticket"), append([]byte("CSRP\x01\x00\x00\x00"), ticket...), func(b []byte) (v any,
			err error) {
			err = ticketFormat.Decode(b, func(f *durable.Fields) { v = bytes.Clone(f.Bytes(f.Len())) })
			return v, err
		}, ticket},
	} {
		if want := sealed(row.want); !bytes.Equal(row.got, want) {
			t.Errorf("%s\ngot  %x\nwant %x", row.name, row.got, want)
		}
		if v, err := row.decode(row.got); err != nil || !reflect.DeepEqual(v, row.value) {
			t.Errorf("%s: %v, %v", row.name, v, err)
		}
		for i := range row.got {
			bad := bytes.Clone(row.got)
			bad[i] ^= 0x42
			if v, err := row.decode(bad); err == nil {
				t.Errorf("%s: byte %d changed: %v", row.name, i, v)
			}
			if _, err := row.decode(row.got[:i]); err == nil {
				t.Errorf("%s: cut to %d bytes", row.name, i)
			}
		}
	}
	if err := d.Mark(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(string(d), "running")); err != nil ||
		string(got) != "CSRN\x01\x00\x00\x00" {
		t.Errorf("running: %x, %v", got, err)
	}
}

func TestMissingFiles(t *testing.T) {
	d := Dir(t.TempDir())
	if h, err := d.ReadSynced(); err != nil || h.Height != 0 || h.Tree.Root() != (chain.Tree{}).Root() {
		t.Errorf("synced: %+v, %v", h, err)
	}
	if list, err := d.ReadLost(); err != nil || list != nil {
		t.Errorf("lost: %v, %v", list, err)
	}
	if is, err := d.IsTicket("ticket"); err != nil || is {
		t.Errorf("repair: %v, %v", is, err)
	}
	if marked, err := d.IsMarked(); err != nil || marked {
		t.Errorf("running: %v, %v", marked, err)
	}
}

// FuzzSynced decodes a file tiles/synced of arbitrary bytes.
func FuzzSynced(f *testing.F) {
	head := someHead()
	f.Add(syncedFormat.Append(nil, head.AppendTo(nil)))
	f.Add(syncedFormat.Append(nil, (&chain.Head{}).AppendTo(nil)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var head chain.Head
		if syncedFormat.Decode(data, func(f *durable.Fields) { head = parseSynced(f) }) != nil {
			return
		}
		if back := syncedFormat.Append(nil,
			head.AppendTo(nil)); string(back[8:len(back)-4]) != string(data[8:len(data)-4]) {
			t.Fatalf("encoded as %x", back)
		}
	})
}

// FuzzLost decodes a list of lost blocks of arbitrary bytes.
func FuzzLost(f *testing.F) {
	f.Add(EncodeLost([]chain.Range{{From: 3, To: 5}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var list []chain.Range
		if lostFormat.Decode(data, func(f *durable.Fields) { list = parseLost(f) }) != nil {
			return
		}
		if back := EncodeLost(list); string(back[8:len(back)-4]) != string(data[8:len(data)-4]) {
			t.Fatalf("encoded as %x", back)
		}
	})
}

func sha256Of(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}
