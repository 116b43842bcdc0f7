package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/chainstore/chainstore/chain"
)

// Sizes of the format, in bytes.
const (
	HeaderSize  = 4 + 1 + 3 + 8 + 4 // of a file's header
	FrameHeader = 4 + 4             // before each block
	MaxBlock    = 1<<32 - 1         // what a frame can hold
)

const (
	magic   = "CSSG"
	version = 1
	suffix  = ".seg"
	digits  = 20
)

// What can be wrong with a file.
var (
	// ErrDamaged: bytes that are not what was written.
	ErrDamaged = errors.New("damaged")
	// ErrNewerFormat: a newer ChainStore wrote the file. Nothing may be changed in its folder.
	ErrNewerFormat = errors.New("written by a newer version of ChainStore")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is the CRC-32C (Castagnoli) of data, the checksum of all files of a storage node.
func Checksum(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }

// Name is the file name of the segment whose first block has that number.
func Name(first uint64) string { return fmt.Sprintf("%0*d%s", digits, first, suffix) }

// List gives the first block numbers of all segments in a folder, in ascending order. Other files are passed over; a folder
// that is not there is an empty one.
func List(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []uint64
	for _, e := range entries {
		number, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || len(number) != digits {
			continue
		}
		first, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			continue
		}
		list = append(list, first)
	}
	slices.Sort(list)
	return list, nil
}

// appendHeader adds a file's header to dst.
func appendHeader(dst []byte, first uint64) []byte {
	start := len(dst)
	dst = append(dst, magic...)
	dst = append(dst, version, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, first)
	return binary.BigEndian.AppendUint32(dst, Checksum(dst[start:]))
}

// CheckHeader holds the header at the start of data against the number in the file's name. The error wraps [ErrDamaged] or
// [ErrNewerFormat].
func CheckHeader(data []byte, first uint64) error {
	switch {
	case len(data) < HeaderSize:
		return fmt.Errorf("%w: %d bytes are too few for a segment", ErrDamaged, len(data))
	case string(data[:4]) != magic:
		return fmt.Errorf("%w: a segment starts with %q, not %q", ErrDamaged, magic, data[:4])
	case data[4] > version:
		return fmt.Errorf("%w: segment version %d, this program knows %d", ErrNewerFormat, data[4], version)
	case data[4] != version || Checksum(data[:HeaderSize-4]) != binary.BigEndian.Uint32(data[HeaderSize-4:]):
		return fmt.Errorf("%w: the header's checksum is wrong", ErrDamaged)
	case binary.BigEndian.Uint64(data[8:]) != first:
		return fmt.Errorf("%w: the header names block %d as the first", ErrDamaged, binary.BigEndian.Uint64(data[8:]))
	}
	return nil
}

// minBlock is the size of the smallest block: one record without key, type and payload.
const minBlock = chain.HeaderSize + 4 + chain.RecordOverhead
