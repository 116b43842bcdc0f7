package raftconfig

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"slices"

	"github.com/chainstore/chainstore/internal/durable"
)

// Remedy is what an operator does about a log that is damaged.
const Remedy = "remove the member, move the whole folder away, and start the master with --join and a join ticket; " +
	"where no other master is left, see " +
	"'When a majority is lost permanently' in docs/masters.md"

// The format of a file of package bbolt, in the byte order of the machine:
//
//	page   = id u64 ‖ flags u16 ‖ count u16 ‖ overflow u32 ‖ content; with its overflow it has 1 + overflow pages
//	meta   = magic u32 ‖ version u32 ‖ page size u32 ‖ flags u32 ‖ bucket ‖ free list u64 ‖ pages u64
//	         ‖ transaction u64 ‖ FNV-1a u64 of everything before it
//	branch = (pos u32 ‖ key size u32 ‖ page u64) × count ‖ keys
//	leaf   = (flags u32 ‖ pos u32 ‖ key size u32 ‖ value size u32) × count ‖ (key ‖ value) × count
//	bucket = root page u64 ‖ sequence u64; with root page 0, a leaf page with id 0 follows in the same value
//
// pos counts from the start of its element. bbolt writes keys and values without gaps, in the order of the elements.
// Pages 0 and 1 are meta pages; the number of a transaction is even on page 0 and odd on page 1.
const (
	pageHeader  = 16
	elementSize = 16
	bucketSize  = 16
	metaSummed  = 56 // bytes of a meta page that its checksum covers

	branchPage   = 0x01
	leafPage     = 0x02
	metaPage     = 0x04
	freelistPage = 0x10
	bucketFlag   = 0x01 // of a leaf element

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	noFreelist  = math.MaxUint64

	// maxDepth is more than the depth of any tree: a branch has at least two children.
	maxDepth = 64
	maxKey   = 1 << 15 // bytes, of bbolt
	// readSize is what is read of a page at once. It has the elements of most pages, and the keys of small entries.
	readSize = 4096
)

// names are the keys in each bucket of a log store, and under "" the buckets. The other bucket has the entries by their
// index, of 8 bytes.
var names = map[string][]string{
	"":                   {string(logBucket), string(stableBucket)},
	string(stableBucket): {"CurrentTerm", "LastVoteTerm", "LastVoteCand", "Vote"},
}

// native is the byte order of the file.
var native = binary.NativeEndian

// CheckLog reads the structure of a log store: the two meta pages, and every page that can be reached from the newest.
// Package bbolt trusts all of it. A wrong page makes it panic, in a goroutine of its own, or read outside of the file,
// which ends the process. Values are not read: their readers check them. The error wraps [durable.ErrDamaged], or is
// that of a read.
//
// Both meta pages must be valid, and of successive transactions. With one of them, bbolt opens the file as it was
// before the last transaction, which may have a vote or acknowledged entries. A power cut does not leave such a file:
// the content of a meta page is within one sector of the disk.
func CheckLog(path string) error {
	f, err := durable.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c := &logCheck{file: f, size: uint64(info.Size())}
	if err = c.checkAll(); errors.Is(err, durable.ErrDamaged) {
		return fmt.Errorf("%s: %w (%s)", path, err, Remedy)
	}
	return err
}

// logCheck is a check of one file. The fields below the first two are those of the newest meta page.
type logCheck struct {
	file     io.ReaderAt
	size     uint64 // bytes of the file
	meta     meta
	pageSize uint64
	reached  []byte // a bit for each page
}

// meta is the content of a meta page.
type meta struct {
	pageSize, root, freelist, pages, transaction uint64
}

func damage(format string, args ...any) error {
	return fmt.Errorf("%w: %w", durable.ErrDamaged, fmt.Errorf(format, args...))
}

// read reads bytes of the file.
func (c *logCheck) read(b []byte, offset uint64) error {
	if offset+uint64(len(b)) > c.size {
		return damage("the file has %d bytes, at least %d are needed", c.size, offset+uint64(len(b)))
	}
	_, err := c.file.ReadAt(b, int64(offset))
	return err
}

func (c *logCheck) checkAll() error {
	if err := c.readMetas(); err != nil {
		return err
	}
	if c.meta.pages > c.size/c.pageSize {
		return damage("the file has %d bytes and lost its end: it had %d pages of %d bytes", c.size, c.meta.pages,
			c.pageSize)
	}
	c.reached = make([]byte, (c.meta.pages+7)/8)
	if c.meta.freelist != noFreelist {
		if err := c.checkFreelist(); err != nil {
			return err
		}
	}
	return c.checkTree(c.meta.root, nil, nil, 0, "")
}

// readMetas reads both meta pages. The second one is at the end of the first, whose size the first one has.
func (c *logCheck) readMetas() error {
	first, err := c.readMeta(0, 0)
	if err != nil {
		return err
	}
	second, err := c.readMeta(1, first.pageSize)
	if err != nil {
		return err
	}
	older, newer := first, second
	if first.transaction > second.transaction {
		older, newer = second, first
	}
	if newer.transaction != older.transaction+1 || older.pageSize != newer.pageSize {
		return damage("the meta pages are of the transactions %d and %d, which do not follow each other",
			first.transaction, second.transaction)
	}
	c.meta, c.pageSize = newer, newer.pageSize
	return nil
}

// readMeta reads the meta page of that number.
func (c *logCheck) readMeta(number, offset uint64) (m meta, err error) {
	var b [pageHeader + metaSummed + 8]byte
	if err := c.read(b[:], offset); err != nil {
		return m, fmt.Errorf("meta page %d: %w", number, err)
	}
	content := b[pageHeader:]
	hash := fnv.New64a()
	hash.Write(content[:metaSummed])
	m = meta{
		pageSize: uint64(native.Uint32(content[8:])), root: native.Uint64(content[16:]),
		freelist: native.Uint64(content[32:]), pages: native.Uint64(content[40:]),
		transaction: native.Uint64(content[48:]),
	}
	var wrong string
	switch {
	case native.Uint32(content) != boltMagic || native.Uint32(content[4:]) != boltVersion:
		wrong = "it does not begin with the magic number and version of package bbolt"
	case native.Uint64(content[metaSummed:]) != hash.Sum64():
		wrong = "its checksum does not match"
	case native.Uint64(b[:]) != number || native.Uint16(b[8:]) != metaPage || m.transaction%2 != number:
		wrong = "it is another page"
	case m.pageSize < 512 || m.pageSize > 1<<20 || m.pageSize&(m.pageSize-1) != 0:
		wrong = fmt.Sprintf("it has a page size of %d", m.pageSize)
	default:
		return m, nil
	}
	return m, damage("meta page %d, at byte %d: %s", number, offset, wrong)
}

// page is the start of a page or, in a value, a whole page.
type page struct {
	name     string // for errors
	kind     uint16
	count    uint64
	length   uint64 // bytes, with the overflow
	overflow uint64
	offset   uint64 // in the file
	data     []byte // its first bytes
	more     []byte // buffer of bytes
}

func parsePage(data []byte) page {
	return page{
		kind: native.Uint16(data[8:]), count: uint64(native.Uint16(data[10:])),
		overflow: uint64(native.Uint32(data[12:])), data: data, length: uint64(len(data)),
	}
}

// readPage reads the start of a page, and records that it and its overflow were reached.
func (c *logCheck) readPage(id uint64) (page, error) {
	if id < 2 || id >= c.meta.pages {
		return page{}, damage("a page refers to page %d; the pages are 2 to %d", id, c.meta.pages-1)
	}
	name := fmt.Sprintf("page %d, at byte %d", id, id*c.pageSize)
	data := make([]byte, min(c.pageSize, readSize))
	if err := c.read(data, id*c.pageSize); err != nil {
		return page{}, fmt.Errorf("%s: %w", name, err)
	}
	p := parsePage(data)
	p.name, p.offset, p.length = name, id*c.pageSize, (1+p.overflow)*c.pageSize
	if own := native.Uint64(data); own != id {
		return page{}, damage("%s: it says that it is page %d", name, own)
	}
	if p.overflow >= c.meta.pages-id {
		return page{}, damage("%s: it ends behind the last page, %d", name, c.meta.pages-1)
	}
	for i := id; i <= id+p.overflow; i++ {
		if c.reached[i/8]&(1<<(i%8)) != 0 {
			return page{}, damage("%s: page %d is used twice", name, i)
		}
		c.reached[i/8] |= 1 << (i % 8)
	}
	return p, nil
}

// bytes returns bytes of a page, which are valid until the next call.
func (c *logCheck) bytes(p *page, from, n uint64) ([]byte, error) {
	if from+n > p.length {
		return nil, damage("%s: its content ends at byte %d of %d", p.name, from+n, p.length)
	}
	if from+n <= uint64(len(p.data)) {
		return p.data[from : from+n], nil
	}
	if uint64(cap(p.more)) < n {
		p.more = make([]byte, n)
	}
	if err := c.read(p.more[:n], p.offset+from); err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return p.more[:n], nil
}

// checkFreelist checks a list of free pages, which older versions wrote.
func (c *logCheck) checkFreelist() error {
	p, err := c.readPage(c.meta.freelist)
	if err != nil {
		return err
	}
	from, count := uint64(pageHeader), p.count
	if count == math.MaxUint16 {
		first, err := c.bytes(&p, from, 8)
		if err != nil {
			return err
		}
		from, count = from+8, native.Uint64(first)
	}
	if p.kind != freelistPage || count > c.meta.pages {
		return damage("%s: it is no list of %d free pages", p.name, count)
	}
	list, err := c.bytes(&p, from, 8*count)
	if err != nil {
		return err
	}
	for ; len(list) > 0; list = list[8:] {
		id := native.Uint64(list)
		if id < 2 || id >= c.meta.pages || c.reached[id/8]&(1<<(id%8)) != 0 {
			return damage("%s: it lists page %d, which is not free", p.name, id)
		}
		c.reached[id/8] |= 1 << (id % 8) // no other page may use it
	}
	return nil
}

// checkTree checks a page and what is below it. Its keys are at least low, and less than high unless that is nil.
// bucket is the name of the bucket whose tree it is, "" for the tree of the buckets.
func (c *logCheck) checkTree(id uint64, low, high []byte, depth int, bucket string) error {
	p, err := c.readPage(id)
	if err != nil {
		return err
	}
	switch {
	case p.kind == leafPage:
		return c.checkLeaf(&p, low, high, bucket)
	case p.kind != branchPage || p.count == 0:
		return damage("%s: it is no page of a tree: kind %#x, %d elements", p.name, p.kind, p.count)
	case depth == maxDepth:
		return damage("%s: the tree is deeper than %d pages", p.name, depth)
	}
	keys := make([][]byte, 0, p.count+1)
	err = c.eachElement(&p, low, high, func(key, _ []byte, _ uint64) error {
		keys = append(keys, bytes.Clone(key))
		return nil
	})
	if err != nil {
		return err
	}
	keys = append(keys, high)
	for i := range p.count {
		e, err := c.bytes(&p, pageHeader+i*elementSize, elementSize)
		if err != nil {
			return err
		}
		if err := c.checkTree(native.Uint64(e[8:]), keys[i], keys[i+1], depth+1, bucket); err != nil {
			return err
		}
	}
	return nil
}

// checkLeaf checks a leaf, and the trees of its buckets. What has another name would be taken for missing: an empty
// log, or no vote.
func (c *logCheck) checkLeaf(p *page, low, high []byte, bucket string) error {
	return c.eachElement(p, low, high, func(key, element []byte, value uint64) error {
		if isBucket := native.Uint32(element)&bucketFlag != 0; isBucket != (bucket == "") {
			return damage("%s: the value of key %x is of another kind", p.name, key)
		}
		if known, ok := names[bucket]; ok && !slices.Contains(known, string(key)) || !ok && len(key) != 8 {
			return damage("%s: it has the key %x, which raft does not write", p.name, key)
		}
		if bucket != "" {
			return nil
		}
		size := uint64(native.Uint32(element[12:]))
		if size < bucketSize {
			return damage("%s: bucket %q has %d bytes", p.name, key, size)
		}
		name := string(key)
		content, err := c.bytes(p, value, size)
		if err != nil {
			return err
		}
		if root := native.Uint64(content); root != 0 {
			return c.checkTree(root, nil, nil, 0, name)
		}
		if size < bucketSize+pageHeader {
			return damage("%s: bucket %q has %d bytes and no page", p.name, name, size)
		}
		inline := parsePage(bytes.Clone(content[bucketSize:]))
		inline.name = fmt.Sprintf("%s, bucket %q", p.name, name)
		if inline.kind != leafPage || inline.overflow != 0 {
			return damage("%s: it is no leaf: kind %#x", inline.name, inline.kind)
		}
		return c.checkLeaf(&inline, nil, nil, name)
	})
}

// eachElement checks the elements of a page and the order of their keys, and calls visit with the key, the element and
// where in the page the value begins. The key and the element are valid during the call.
func (c *logCheck) eachElement(p *page, low, high []byte, visit func(key, element []byte, value uint64) error) error {
	end := pageHeader + p.count*elementSize
	var element [elementSize]byte
	var key []byte
	previous := bytes.Clone(low)
	for i := range p.count {
		start := pageHeader + i*elementSize
		b, err := c.bytes(p, start, elementSize)
		if err != nil {
			return err
		}
		copy(element[:], b)
		pos, keySize, valueSize := native.Uint32(b), uint64(native.Uint32(b[4:])), uint64(0)
		if p.kind == leafPage {
			pos, keySize, valueSize = native.Uint32(b[4:]), uint64(native.Uint32(b[8:])), uint64(native.Uint32(b[12:]))
		}
		if uint64(pos) != end-start || keySize == 0 || keySize > maxKey || end+keySize+valueSize > p.length {
			return damage("%s: element %d is not within it: a key of %d bytes and a value of %d at byte %d", p.name, i,
				keySize, valueSize, start+uint64(pos))
		}
		if b, err = c.bytes(p, end, keySize); err != nil {
			return err
		}
		key = append(key[:0], b...)
		if order := bytes.Compare(previous, key); order > 0 || order == 0 && i > 0 ||
			high != nil && bytes.Compare(key, high) >= 0 {
			return damage("%s: key %x of element %d is out of order", p.name, key, i)
		}
		if err := visit(key, element[:], end+keySize); err != nil {
			return err
		}
		previous, key = key, previous
		end += keySize + valueSize
	}
	return nil
}
