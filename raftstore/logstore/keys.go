package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// keysFormat is the format of one copy of the file "keys", which has the data keys of a log that is encrypted. Its
// body:
//
//	count u32 ‖ key × count ‖ zeros up to the end of a page
//	key = number u32 ‖ key header[88]
//
// Numbers ascend. The file has two equal copies, each of whole pages of 4096 bytes, because without it the log is lost.
var keysFormat = durable.Format{Magic: "CSLK", Version: 1, Zeros: 3, Remedy: raftconfig.Remedy}

const (
	keysPage      = 4096
	keysFixed     = 8 + 4 + 4 // magic and version, count, checksum
	logKeyBytes   = 4 + atrest.HeaderSize
	keyNumberSize = 4
)

// maxSealed bounds the entries that one data key encrypts: two of them have the same nonce with a probability of less
// than 2^-49. A variable for tests.
var maxSealed = 1 << 24

// An encrypted entry is stored under its own index, term and time. Its type has sealedType added, and its data is
//
//	key number u32 ‖ message
//	message = nonce[12] ‖ AES-256-GCM(length of extensions u8 ‖ extensions ‖ data) ‖ tag[16]
//
// The additional data is index u64 ‖ term u64 ‖ type u8, so an entry decrypts only in its place. Its extensions are the
// checksum of what is stored. So segments, scans and the mark are those of any log, and need no key.
const sealedType raft.LogType = 0x80

// sealedOverhead is how much longer the data of an encrypted entry is, besides its extensions.
const sealedOverhead = keyNumberSize + atrest.Overhead + 1

func keysPath(dir string) string { return filepath.Join(dir, "keys") }

// logKey is a data key of a log.
type logKey struct {
	number uint32
	header []byte
	key    *atrest.DataKey
	newest uint64 // an index that no entry passes which the key has encrypted
}

// keyring has the data keys of a log.
type keyring struct {
	path string
	ring *atrest.Ring
	disk disk

	torn   bool // one copy of the file is not good
	sealed int  // entries that the last key has encrypted; it is of this process if there are some
	own    bool // the last key was made by this process

	mu   sync.RWMutex // guards the list; the owner of the log alone changes it
	list []logKey
}

// openKeys reads the data keys of a log; there are none if it has no file of them. The error names the file. It wraps
// [atrest.ErrNoKey], or [durable.ErrDamaged] if neither copy is good.
func openKeys(path string, ring *atrest.Ring, disk disk) (*keyring, error) {
	k := &keyring{path: path, ring: ring, disk: disk}
	list, torn, err := readKeys(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, err
	}
	k.torn = torn
	for _, key := range list {
		if key.key, err = ring.Unwrap(key.header, keyName(key.number)); err != nil {
			return nil, fmt.Errorf("%s: data key %d: %w", path, key.number, err)
		}
		k.list = append(k.list, key)
	}
	return k, nil
}

// readKeys reads the file without decrypting the keys. torn says that one of the copies is not good.
func readKeys(path string) (list []logKey, torn bool, err error) {
	data, err := durable.ReadFile(path)
	if err != nil {
		return nil, false, err
	}
	half := len(data) / 2
	list, err = parseKeys(data[:half])
	other, otherErr := parseKeys(data[half:])
	switch {
	case err == nil:
		return list, otherErr != nil, nil
	case otherErr == nil:
		return other, true, nil
	case errors.Is(err, durable.ErrDamaged):
		err = fmt.Errorf("%w (%s)", err, raftconfig.Remedy)
	}
	return nil, false, fmt.Errorf("%s: %w", path, err)
}

// parseKeys reads one copy.
func parseKeys(data []byte) (list []logKey, err error) {
	err = keysFormat.Decode(data, func(f *durable.Fields) {
		for range f.Count(logKeyBytes) {
			key := logKey{number: f.Uint32(), header: slices.Clone(f.Fixed(atrest.HeaderSize))}
			if n := len(list); n > 0 && list[n-1].number >= key.number {
				f.Fail(errors.New("the numbers of its keys do not ascend"))
			}
			list = append(list, key)
		}
		if slices.ContainsFunc(f.Bytes(f.Len()), func(b byte) bool { return b != 0 }) {
			f.Fail(errors.New("there are bytes behind its keys"))
		}
		if len(list) == 0 {
			f.Fail(errors.New("it has no key"))
		}
	})
	return list, err
}

// encodeKeys returns the content of the file.
func encodeKeys(list []logKey) []byte {
	body := binary.BigEndian.AppendUint32(nil, uint32(len(list)))
	for _, key := range list {
		body = append(binary.BigEndian.AppendUint32(body, key.number), key.header...)
	}
	size := (keysFixed - 4 + len(body) + keysPage - 1) / keysPage * keysPage
	zeros := make([]byte, size-(keysFixed-4)-len(body))
	one := keysFormat.Append(make([]byte, 0, 2*size), body, zeros)
	return append(one, one...)
}

// keyName is what names a data key in its header.
func keyName(number uint32) []byte {
	return binary.BigEndian.AppendUint32(keysFormat.AppendHeader(nil), number)
}

// write replaces the file. Where the error can be retried, nothing was changed.
func (k *keyring) write(list []logKey) error {
	err := k.disk.do("replace", k.path, func() error {
		return durable.WriteFile(k.path, encodeKeys(list), 0o600)
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", k.path, err)
	}
	k.mu.Lock()
	k.list, k.torn = list, false
	k.mu.Unlock()
	return nil
}

// find returns the data key of a number, nil if there is none.
func (k *keyring) find(number uint32) *atrest.DataKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for i := range k.list {
		if k.list[i].number == number {
			return k.list[i].key
		}
	}
	return nil
}

// idsOf returns the ids of the operator's keys that data keys need.
func idsOf(list []logKey) (ids []atrest.ID) {
	for i := range list { // an append may change the rest of a key
		if id := atrest.IDOf(list[i].header); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// isCurrent reports whether all keys are encrypted with the operator's current one.
func (k *keyring) isCurrent() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	ids := idsOf(k.list)
	return len(ids) == 0 || len(ids) == 1 && ids[0] == k.ring.Current()
}

// wrapped returns the keys that entries from first on need, and the last one, encrypted with the current key of the
// operator.
func (k *keyring) wrapped(first uint64) (list []logKey) {
	for i, key := range k.list {
		if key.newest < first && i < len(k.list)-1 {
			continue
		}
		if atrest.IDOf(key.header) != k.ring.Current() {
			key.header = k.ring.Wrap(key.key, keyName(key.number))
		}
		list = append(list, key)
	}
	return list
}

// begin writes a new data key, which encrypts from now on, and forgets those of entries in front of first. The number
// of a key is never used again: the last key stays in the file until there is another one.
func (k *keyring) begin(first uint64) error {
	list := k.wrapped(first)
	number := uint32(1)
	if n := len(list); n > 0 {
		number = list[n-1].number + 1
	}
	key, header := k.ring.NewKey(keyName(number))
	if err := k.write(append(list, logKey{number: number, header: header, key: key})); err != nil {
		return err
	}
	k.sealed, k.own = 0, true
	return nil
}

// seal returns entries as they are stored, in a buffer that it may allocate.
func (k *keyring) seal(logs []*raft.Log, buf []byte) ([]*raft.Log, []byte) {
	size := 0
	for _, l := range logs {
		size += sealedOverhead + len(l.Extensions) + len(l.Data)
	}
	buf = slices.Grow(buf[:0], size)
	last := &k.list[len(k.list)-1]
	stored := make([]*raft.Log, len(logs))
	for i, l := range logs {
		from := len(buf)
		buf = binary.BigEndian.AppendUint32(buf, last.number)
		// The text is put where its encryption is to be.
		text := append(buf[len(buf):len(buf)+atrest.NonceSize], byte(len(l.Extensions)))
		text = append(append(text, l.Extensions...), l.Data...)
		buf = last.key.Seal(buf, text[atrest.NonceSize:], entryName(l))
		stored[i] = &raft.Log{Index: l.Index, Term: l.Term, Type: l.Type | sealedType, AppendedAt: l.AppendedAt,
			Data: buf[from:len(buf):len(buf)]}
		sum := Checksum(stored[i])
		stored[i].Extensions = sum[:]
		last.newest = max(last.newest, l.Index)
	}
	k.sealed += len(logs)
	return stored, buf
}

// entryName is the additional data of an entry.
func entryName(l *raft.Log) []byte {
	name := binary.BigEndian.AppendUint64(make([]byte, 0, 17), l.Index)
	return append(binary.BigEndian.AppendUint64(name, l.Term), byte(l.Type))
}

// keyOf returns the number of the data key of a stored entry. encrypted is false for one in clear.
func keyOf(l *raft.Log) (number uint32, encrypted bool, err error) {
	if l.Type&sealedType == 0 {
		return 0, false, nil
	}
	if len(l.Data) < sealedOverhead {
		return 0, true, fmt.Errorf("%w: entry %d cannot be decrypted: it has %d bytes", durable.ErrDamaged, l.Index,
			len(l.Data))
	}
	return binary.BigEndian.Uint32(l.Data), true, nil
}

// open makes a stored entry the one that was appended. It uses the memory of its data. The error wraps
// [durable.ErrDamaged].
func (k *keyring) open(l *raft.Log) error {
	number, encrypted, err := keyOf(l)
	if err != nil || !encrypted {
		return err
	}
	key := k.find(number)
	if key == nil {
		return k.errNoNumber(l.Index, number)
	}
	l.Type &^= sealedType
	text, err := key.Open(l.Data[keyNumberSize:], entryName(l))
	if err == nil && (len(text) == 0 || len(text) <= int(text[0])) {
		err = fmt.Errorf("%w: it has no checksum", durable.ErrDamaged)
	}
	if err != nil {
		return fmt.Errorf("entry %d: %w", l.Index, err)
	}
	end := 1 + int(text[0])
	l.Extensions, l.Data = text[1:end:end], text[end:]
	return nil
}

// errNoNumber is the error of an entry whose data key the file does not have. It wraps [durable.ErrDamaged].
func (k *keyring) errNoNumber(index uint64, number uint32) error {
	return fmt.Errorf("%w: entry %d is encrypted with data key %d, which %s does not have: put the newer file back, "+
		"or %s", durable.ErrDamaged, index, number, k.path, raftconfig.Remedy)
}

// CheckKeys returns an error that wraps [atrest.ErrNoKey] and names the file if a log, or a file with the data keys of
// one, needs a key that the operator's do not have. It says nothing about damage.
func CheckKeys(dir string, ring *atrest.Ring) error {
	list, _, _ := readKeys(keysPath(dir)) // Open reports an error
	for _, id := range idsOf(list) {
		if err := ring.CheckKey(id); err != nil {
			return fmt.Errorf("%s: %w", keysPath(dir), err)
		}
	}
	return nil
}

// RewrapKeys brings a copy of the file of data keys, beside segments that were moved aside, under the operator's
// current key. Where the error can be retried, nothing was changed.
func RewrapKeys(path string, ring *atrest.Ring) error {
	k, err := openKeys(path, ring, nil)
	if err != nil || k.isCurrent() {
		return err
	}
	return k.write(k.wrapped(0))
}

// KeyIDs returns the ids of the operator's keys that a file of data keys needs.
func KeyIDs(path string) ([]atrest.ID, error) {
	list, _, err := readKeys(path)
	return idsOf(list), err
}

// AtRest is what of a log is encrypted.
type AtRest struct {
	Keys  []atrest.ID // of the operator, which the data keys need
	Plain int         // segments with entries in clear
}

// CountAtRest looks at a log that may be in use. It needs no key.
func CountAtRest(dir string) (found AtRest, err error) {
	found.Keys, err = KeyIDs(keysPath(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	state, err := readSegments(dir)
	if err != nil {
		return found, err
	}
	for _, s := range state.Segments {
		plain, err := HasPlain(segmentPath(dir, s))
		switch {
		case errors.Is(err, fs.ErrNotExist): // it is not there yet, or not any more
		case err != nil:
			return found, err
		case plain:
			found.Plain++
		}
	}
	return found, nil
}

// HasPlain reports whether a segment, or the end of one that was cut off, has an entry in clear. Of a file that is
// damaged, it looks at what is in front of the damage.
func HasPlain(path string) (plain bool, err error) {
	file, err := durable.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	at, frames := int64(0), 0
	var magic [headerBytes]byte
	if _, err := file.ReadAt(magic[:], 0); err == nil && binary.LittleEndian.Uint64(magic[:]) == segmentMagic {
		at = headerBytes
	}
	for at < info.Size() {
		found, err := frameAt(file, at, info.Size())
		if err != nil {
			return false, err
		}
		if found.size == 0 {
			break
		}
		if frames++; found.index > 0 && found.kind&sealedType == 0 {
			return true, nil
		}
		at += found.size
	}
	if frames > 0 {
		return false, nil
	}
	rest, err := contentBehind(file, at, info.Size())
	return rest > 0, err // it is no part of a segment
}
