package wire

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
)

// Tiles are those of C2SP tlog-tiles: up to 256 hashes of every eighth level of the tree, and bundles of the 256
// entries below one of the lowest level.
const (
	TileHeight = 8
	TileWidth  = 1 << TileHeight
)

// MaxTiles is the limit of tiles in one read: more than a consistency proof of the largest tree needs.
const MaxTiles = 64

// MaxEntry is the size of the largest entry, a seal; MaxBundle that of the largest bundle.
const (
	MaxEntry  = chain.HeaderSize
	MaxBundle = TileWidth * (2 + MaxEntry)
)

// WidthOfTile is the number of hashes of tile index of a level in a tree of that size, 0 for no tile. The level may be
// any number, since it comes from a URL.
func WidthOfTile(level, index, size uint64) int {
	if level >= 64/TileHeight {
		return 0
	}
	hashes := size >> (TileHeight * level)
	if index > hashes>>TileHeight {
		return 0
	}
	return int(min(hashes-index<<TileHeight, TileWidth))
}

// tileSize is the size of one tile in a request for [PathReadTiles]: level u8 ‖ index u64 ‖ width u16, big endian.
const tileSize = 1 + 8 + 2

// AppendTiles adds the request's bytes to dst.
func AppendTiles(dst []byte, tiles []tlog.Tile) []byte {
	for _, t := range tiles {
		dst = append(dst, byte(t.L))
		dst = binary.BigEndian.AppendUint64(dst, uint64(t.N))
		dst = binary.BigEndian.AppendUint16(dst, uint16(t.W))
	}
	return dst
}

// ParseTiles reads a request: tiles of 1 to 256 hashes that a tree of less than 2^63 leaves can have. The error wraps
// [ErrMalformed].
func ParseTiles(data []byte) ([]tlog.Tile, error) {
	if len(data) == 0 || len(data)%tileSize != 0 || len(data) > MaxTiles*tileSize {
		return nil, fmt.Errorf("%w: %d bytes are no list of 1 to %d tiles", ErrMalformed, len(data), MaxTiles)
	}
	tiles := make([]tlog.Tile, len(data)/tileSize)
	for i := range tiles {
		at := data[i*tileSize:]
		level, index, width := int(at[0]), binary.BigEndian.Uint64(at[1:]), int(binary.BigEndian.Uint16(at[9:]))
		if width < 1 || width > TileWidth || TileHeight*(level+1)+bits.Len64(index) > 63 {
			return nil, fmt.Errorf("%w: no tile has level %d, index %d and %d hashes",
				ErrMalformed, level, index, width)
		}
		tiles[i] = tlog.Tile{H: TileHeight, L: level, N: int64(index), W: width}
	}
	return tiles, nil
}

// TileData answers for a list of tiles: the hashes of each, one after the other, as they are on the node's disk.
//
//	status u8 ‖ hash[32] …
type TileData struct {
	Status ReadStatus // ReadFound, or ReadBehind, ReadBad or ReadFailed and no tile follows
	Tiles  [][]byte
}

// AppendTo adds the answer's bytes to dst.
func (d *TileData) AppendTo(dst []byte) []byte {
	dst = append(dst, byte(d.Status))
	for _, t := range d.Tiles {
		dst = append(dst, t...)
	}
	return dst
}

// ParseTileData reads an answer, which it points into, for a list of tiles. The error wraps [ErrMalformed].
func ParseTileData(data []byte, tiles []tlog.Tile) (TileData, error) {
	if len(data) < 1 {
		return TileData{}, fmt.Errorf("%w: an empty answer", ErrMalformed)
	}
	d := TileData{Status: ReadStatus(data[0])}
	data = data[1:]
	if d.Status == ReadFound {
		d.Tiles = make([][]byte, len(tiles))
		for i, t := range tiles {
			n := t.W * tlog.HashSize
			if n > len(data) {
				return TileData{}, fmt.Errorf("%w: the answer ends within tile %d of %d", ErrMalformed, i, len(tiles))
			}
			d.Tiles[i], data = data[:n:n], data[n:]
		}
	}
	if len(data) > 0 {
		return TileData{}, fmt.Errorf("%w: %d bytes behind the last tile", ErrMalformed, len(data))
	}
	return d, nil
}

// Entries answers for a range of leaves with their data, in the form of an entry bundle of C2SP tlog-tiles.
//
//	status u8 ‖ block u64 ‖ (length u16 ‖ entry) …
type Entries struct {
	Status ReadStatus // ReadFound, or ReadBehind, ReadBad or ReadFailed and no entry follows
	Block  uint64     // with ReadBad and ReadFailed: the first block that cannot be read
	Bundle []byte
}

// AppendTo adds the answer's bytes to dst.
func (e *Entries) AppendTo(dst []byte) []byte {
	dst = append(dst, byte(e.Status))
	dst = binary.BigEndian.AppendUint64(dst, e.Block)
	return append(dst, e.Bundle...)
}

// ParseEntries reads an answer, which it points into. The error wraps [ErrMalformed].
func ParseEntries(data []byte) (Entries, error) {
	if len(data) < 9 {
		return Entries{}, fmt.Errorf("%w: %d bytes are too few for an answer", ErrMalformed, len(data))
	}
	return Entries{Status: ReadStatus(data[0]), Block: binary.BigEndian.Uint64(data[1:]), Bundle: data[9:]}, nil
}

// AppendEntry adds an entry to a bundle.
func AppendEntry(bundle, entry []byte) []byte {
	return append(binary.BigEndian.AppendUint16(bundle, uint16(len(entry))), entry...)
}

// NextEntry reads the first entry of a bundle and returns the rest. The error wraps [ErrMalformed].
func NextEntry(bundle []byte) (entry, rest []byte, err error) {
	if len(bundle) < 2 || len(bundle)-2 < int(binary.BigEndian.Uint16(bundle)) {
		return nil, nil, fmt.Errorf("%w: a bundle ends within an entry", ErrMalformed)
	}
	n := 2 + int(binary.BigEndian.Uint16(bundle))
	return bundle[2:n:n], bundle[n:], nil
}
