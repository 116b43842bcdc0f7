package httpapi

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// Number reads a number of the path. See [ParseNumber].
func Number(c *gin.Context, name string, highest uint64) (uint64, error) {
	return ParseNumber(name, c.Param(name), highest)
}

// ParseNumber reads a number that names something, from 0 to highest. A text that is not a number is a bad request. A
// number out of that range, or below zero, names nothing, so it is not found.
func ParseNumber(name, text string, highest uint64) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	_, signed := strconv.ParseInt(text, 10, 64)
	if errors.Is(err, strconv.ErrRange) || err != nil && signed == nil || n > highest {
		return 0, fmt.Errorf("%w: %s %s is out of range", wire.ErrNotFound, name, text)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %s %q is not a number", wire.ErrBadRequest, name, text)
	}
	return n, nil
}

// Hash reads the hash of the path.
func Hash(c *gin.Context) (h chain.Hash, err error) {
	if err := h.UnmarshalText([]byte(c.Param("hash"))); err != nil {
		return h, fmt.Errorf("%w: hash: %w", wire.ErrBadRequest, err)
	}
	return h, nil
}
