package durable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/chainstore/chainstore/internal/fields"
)

// Errors of files that are read back.
var (
	// ErrDamaged: the bytes are not those that were written.
	ErrDamaged = errors.New("damaged")
	// ErrNewerFormat: a newer version of ChainStore wrote the file. Nothing in its folder may be changed.
	ErrNewerFormat = errors.New("written by a newer version of ChainStore")
)

// NewerVersion returns the error for a file whose version is above the one that this program knows. It wraps
// [ErrNewerFormat].
func NewerVersion(version, known int) error {
	return fmt.Errorf("%w: format version %d, this program reads version %d (use the version that wrote it)",
		ErrNewerFormat, version, known)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum returns the CRC-32C (Castagnoli, RFC 3720) of the parts, in their order.
func Checksum(parts ...[]byte) (sum uint32) {
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	return sum
}

// Fields reads the fields of a body in their order.
type Fields = fields.Reader

// Format describes a kind of small file that is written as a whole and checked as a whole:
//
//	header ‖ body ‖ CRC-32C u32 of everything before it, big endian
//	header = magic[4] ‖ version u8 ‖ zero × Zeros
//
// Files that cannot be written as a whole use the header alone.
type Format struct {
	Magic   string // four bytes
	Version byte   // the only one that this program reads and writes
	Zeros   int    // number of zero bytes after the version; readers ignore their value
	Remedy  string // what an operator does about a damaged file, "" where the program handles it
}

const sumSize = 4

// AppendHeader appends the header to dst.
func (f Format) AppendHeader(dst []byte) []byte {
	dst = append(append(dst, f.Magic...), f.Version)
	return append(dst, make([]byte, f.Zeros)...)
}

// CheckHeader checks the magic and the version at the start of data. The error wraps [ErrDamaged] or [ErrNewerFormat].
func (f Format) CheckHeader(data []byte) error {
	size := len(f.Magic) + 1 + f.Zeros
	switch {
	case len(data) > len(f.Magic) && string(data[:len(f.Magic)]) == f.Magic && data[len(f.Magic)] > f.Version:
		return NewerVersion(int(data[len(f.Magic)]), int(f.Version))
	case len(data) < size:
		return fmt.Errorf("%w: %d bytes are less than its header", ErrDamaged, len(data))
	case string(data[:len(f.Magic)]) != f.Magic:
		return fmt.Errorf("%w: it starts with %q, not %q", ErrDamaged, data[:len(f.Magic)], f.Magic)
	case data[len(f.Magic)] != f.Version:
		return fmt.Errorf("%w: it has format version %d, not %d", ErrDamaged, data[len(f.Magic)], f.Version)
	}
	return nil
}

// Append appends a whole file to dst. Its body is the concatenation of the parts.
func (f Format) Append(dst []byte, parts ...[]byte) []byte {
	start := len(dst)
	dst = f.AppendHeader(dst)
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return binary.BigEndian.AppendUint32(dst, Checksum(dst[start:]))
}

// Decode checks a whole file and passes its body to parse, which must read all of it. The error wraps [ErrDamaged] or
// [ErrNewerFormat]. On an error, what parse has read is not to be used.
func (f Format) Decode(data []byte, parse func(*Fields)) error {
	if err := f.CheckHeader(data); err != nil {
		return err
	}
	header := len(f.Magic) + 1 + f.Zeros
	end := len(data) - sumSize
	if end < header {
		return fmt.Errorf("%w: %d bytes are less than its header and checksum", ErrDamaged, len(data))
	}
	if want, got := binary.BigEndian.Uint32(data[end:]), Checksum(data[:end]); want != got {
		return fmt.Errorf("%w: its checksum is %08x, its bytes have %08x", ErrDamaged, want, got)
	}
	body := fields.New(data[header:end])
	parse(body)
	if err := body.End(); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// Read is [Format.Decode] of the file at path. The error names the file. It wraps [ErrDamaged] or [ErrNewerFormat], or
// is that of [ReadFile].
func (f Format) Read(path string, parse func(*Fields)) error {
	data, err := ReadFile(path)
	if f.Remedy != "" && errors.Is(err, ErrNotFile) {
		return fmt.Errorf("%w (%s)", err, f.Remedy)
	}
	if err != nil {
		return err
	}
	err = f.Decode(data, parse)
	switch {
	case err == nil:
		return nil
	case f.Remedy != "" && errors.Is(err, ErrDamaged):
		return fmt.Errorf("%s: %w (%s)", path, err, f.Remedy)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// Write writes a whole file at path, mode 0600, as [WriteFile] does. The error names the file.
func (f Format) Write(path string, parts ...[]byte) error {
	if err := WriteFile(path, f.Append(nil, parts...), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
