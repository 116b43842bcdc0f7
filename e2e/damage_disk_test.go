package e2e

import (
	enc "encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// disk holds the files of a storage node, and the position at which to damage them. By default this is a frame in the
// middle of a segment in the middle of the chain.
type disk struct {
	t      *testing.T
	dir    string
	path   string       // of the file
	block  int          // offset of the block in the file
	length int          // of the block
	header chain.Header // of the block
	older  string       // an older copy of a last segment
	acked  uint64       // number of blocks that the node has acknowledged, at least
	// Offsets of a byte of the first record's salt and payload, relative to the block's records.
	salt, payload int
}

func (c *damaged) disk() *disk {
	d := &disk{t: c.t, dir: roleOf(c.Topology(), c.name).Data}
	firsts := d.segments()
	for _, first := range firsts[len(firsts)/2:] {
		d.at(filepath.Join("segments", segment.Name(first)))
		if frames := d.frames(); len(frames) > 2 {
			d.choose(frames[len(frames)/2])
			return d
		}
	}
	d.t.Fatal("no segment of several blocks")
	return nil
}

func (d *disk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) segments() []uint64 {
	d.t.Helper()
	firsts, err := segment.List(filepath.Join(d.dir, "segments"))
	d.must(err)
	return firsts
}

// at selects a file of the folder.
func (d *disk) at(name string) { d.path = filepath.Join(d.dir, filepath.FromSlash(name)) }

// run selects the first run of the index of records.
func (d *disk) run() {
	d.t.Helper()
	runs, err := filepath.Glob(filepath.Join(d.dir, "records", "*.run"))
	if err != nil || len(runs) == 0 {
		d.t.Fatalf("no index of records in %s: %v", d.dir, err)
	}
	d.path = runs[0]
}

func (d *disk) read() []byte {
	d.t.Helper()
	data, err := os.ReadFile(d.path)
	d.must(err)
	return data
}

// frames returns the complete frames of the file.
func (d *disk) frames() []segment.Frame {
	d.t.Helper()
	f, err := os.Open(d.path)
	d.must(err)
	defer f.Close()
	info, err := f.Stat()
	d.must(err)
	frames := segment.NewFrames(f, segment.HeaderSize, info.Size())
	var list []segment.Frame
	for {
		frame, err := frames.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, durable.ErrDamaged) { // the node may still be writing the last one
			return list
		}
		d.must(err)
		frame.Block = slices.Clone(frame.Block)
		list = append(list, frame)
	}
}

// choose selects a frame.
func (d *disk) choose(frame segment.Frame) {
	d.t.Helper()
	d.block, d.length = int(frame.Offset)+segment.FrameHeader, int(frame.Length)
	block, err := chain.ParseBlock(frame.Block)
	d.must(err)
	d.header = block.Header
	record, err := block.Record(0)
	d.must(err)
	encoded := block.Encoded(0)
	d.payload = len(encoded) - len(record.Payload)/2 - 1
	d.salt = strings.Index(string(encoded), string(record.Salt[:])) + 3
}

// last selects the last frame that the node has acknowledged, in the last segment that has one.
func (d *disk) last() {
	d.t.Helper()
	for _, first := range slices.Backward(d.segments()) {
		d.at(filepath.Join("segments", segment.Name(first)))
		for _, frame := range slices.Backward(d.frames()) {
			if d.choose(frame); d.header.Block < d.acked {
				return
			}
		}
	}
	d.t.Fatal("no block was acknowledged")
}

// flip flips one bit.
func (d *disk) flip(offset int) {
	d.t.Helper()
	f, err := os.OpenFile(d.path, os.O_RDWR, 0)
	d.must(err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], int64(offset))
	d.must(err)
	b[0] ^= 4
	_, err = f.WriteAt(b[:], int64(offset))
	d.must(err)
}

func (d *disk) truncate(size int64) {
	d.t.Helper()
	d.must(os.Truncate(d.path, size))
}

// replace replaces a file by a new one, as an editor does.
func (d *disk) replace(path string, data []byte) {
	d.t.Helper()
	d.must(os.WriteFile(path+".edited", data, 0o600))
	d.must(os.Rename(path+".edited", path))
}

func (d *disk) removeSegments() {
	for _, first := range d.segments() {
		d.must(os.Remove(filepath.Join(d.dir, "segments", segment.Name(first))))
	}
}

// removeTiles removes the whole folder. It tries again if the node writes a file into it meanwhile.
func (d *disk) removeTiles() {
	d.at("tiles")
	for os.RemoveAll(d.path) != nil {
	}
}

// inPayload flips a bit of the payload.
func (d *disk) inPayload() { d.flip(d.block + chain.BlockOverhead(d.header.Count) + d.payload) }

// put creates something at a path, and repeats this until it exists: the node may write its own file meanwhile.
func (d *disk) put(name string, with func(path string) error) {
	d.t.Helper()
	path := filepath.Join(d.dir, filepath.FromSlash(name))
	for {
		err := os.RemoveAll(path)
		if err == nil {
			err = with(path)
		}
		if err == nil {
			return
		}
		if d.t.Context().Err() != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *disk) indexIsAFolder() {
	d.inPayload()
	d.put("index", func(path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o700) })
}

func (d *disk) indexIsALoop() {
	d.inPayload()
	d.put("index", func(path string) error { return os.Symlink(path, path) })
}

func (d *disk) tilesAreAFile() {
	d.inPayload()
	d.put("tiles", func(path string) error { return os.WriteFile(path, []byte("no folder"), 0o600) })
}

func (d *disk) segmentIsAPipe() {
	d.must(os.Remove(d.path))
	d.must(syscall.Mkfifo(d.path, 0o600))
}

func (d *disk) tileIsAPipe() {
	d.inPayload()
	d.put("tiles/00", func(path string) error { return syscall.Mkfifo(path, 0o600) })
}

func (d *disk) removeBlock() {
	data := d.read()
	d.replace(d.path, slices.Delete(data, d.block-segment.FrameHeader, d.block+d.length))
}

func (d *disk) swapBlocks() {
	frames := d.frames()
	if len(frames) < 2 {
		d.t.Fatal("a segment of one block")
	}
	data := d.read()
	a, b := frames[0], frames[1]
	end := b.Offset + segment.FrameHeader + int64(b.Length)
	swapped := slices.Concat(data[:a.Offset], data[b.Offset:end], data[a.Offset:b.Offset], data[end:])
	d.replace(d.path, swapped)
}

// olderCopy replaces a segment that has grown by another node's older copy of it.
func (d *disk) olderCopy() {
	older, err := os.ReadFile(d.older)
	d.must(err)
	d.at(filepath.Join("segments", strings.TrimPrefix(filepath.Base(d.older), "older-")))
	if now := d.read(); len(now) <= len(older) {
		d.t.Fatalf("%s has not grown since: %d bytes", d.path, len(now))
	}
	d.replace(d.path, older)
}

func (d *disk) swapFiles() {
	firsts := d.segments()
	one := filepath.Join(d.dir, "segments", segment.Name(firsts[0]))
	other := filepath.Join(d.dir, "segments", segment.Name(firsts[1]))
	d.must(os.Rename(one, one+".aside"))
	d.must(os.Rename(other, one))
	d.must(os.Rename(one+".aside", other))
}

// inbox writes a file into the inbox under the name of a block far beyond the end of the chain: garbage, or the given
// well-formed block.
func (d *disk) inbox(block []byte) {
	const number = 1 << 40
	data := []byte("garbage")
	if block != nil {
		data = append([]byte("CSIB"), 1, 0, 0, 0)
		data = enc.BigEndian.AppendUint64(data, number)
		data = enc.BigEndian.AppendUint32(data, uint32(len(block)))
		data = append(data, block...)
		data = enc.BigEndian.AppendUint32(data, durable.Checksum(data))
	}
	d.at(filepath.Join("inbox", fmt.Sprintf("%020d.block", number)))
	d.must(os.WriteFile(d.path, data, 0o600))
}

// mineAgain changes a payload in the middle of the chain and rebuilds the chain from there. Every link, root and proof
// of work is valid, but it is a different chain.
func (d *disk) mineAgain() {
	v := chain.NewVerifier(chain.Head{})
	for _, first := range d.segments() {
		d.at(filepath.Join("segments", segment.Name(first)))
		data := d.read()
		for _, frame := range d.frames() {
			block, err := chain.ParseBlock(frame.Block)
			d.must(err)
			if block.Header.Block >= d.header.Block {
				block = d.minedAgain(v.Head(), block)
				at := frame.Offset
				enc.BigEndian.PutUint32(data[at+4:], durable.Checksum(block.Bytes()))
				copy(data[at+segment.FrameHeader:], block.Bytes())
			}
			_, err = v.Take(&block)
			d.must(err)
		}
		d.replace(d.path, data)
	}
}

// minedAgain rebuilds a block on another head. If it is the block to change, a bit of its first payload is flipped.
func (d *disk) minedAgain(head chain.Head, block chain.Block) chain.Block {
	h := block.Header
	records := slices.Clone(block.Bytes()[chain.BlockOverhead(h.Count):])
	if h.Block == d.header.Block {
		records[d.payload] ^= 4
	}
	ends := make([]uint32, h.Count)
	for i := range ends {
		ends[i] = enc.BigEndian.Uint32(block.Bytes()[chain.HeaderSize+4*i:])
	}
	h.Prev = head.Hash
	changed, err := chain.NewBlock(h, ends, records)
	d.must(err)
	tree := head.Tree
	for i := range h.Count {
		record, err := changed.Record(i)
		d.must(err)
		tree = tree.Append(record.Leaf().Hash())
	}
	h.Root = tree.Root()
	nonce, found := chain.Solve(h.Inner(), h.Difficulty, 0, 1<<32)
	if !found {
		d.t.Fatal("no nonce")
	}
	h.Nonce = nonce
	changed, err = chain.NewBlock(h, ends, records)
	d.must(err)
	return changed
}
