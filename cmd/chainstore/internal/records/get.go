package records

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/wire"
)

// NewGet reads one record.
func NewGet() *cobra.Command {
	var index, block, offset uint64
	var key string
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "get {BLOCK OFFSET | --index N | --key KEY}",
		Short: "Read a record",
		Long: `Read the record at a position, or the newest one with a key, and write its payload to the standard
output unchanged, without an added line feed.

The payload was verified: it was hashed again and compared with its commitment and the leaf of the tree.`,
		Example: `  chainstore get 0 0
  chainstore get --index 17 --json
  chainstore get --key door/7`,
		Args: func(cmd *cobra.Command, args []string) error {
			ways := 0
			for _, way := range []bool{len(args) == 2, cmd.Flags().Changed("index"), key != ""} {
				if way {
					ways++
				}
			}
			if ways != 1 || len(args) == 1 || len(args) > 2 {
				return errors.New("name one record: get BLOCK OFFSET, get --index N, or get --key KEY")
			}
			return nil
		},
		PreRunE: func(_ *cobra.Command, args []string) (err error) {
			if len(args) == 2 {
				if block, err = parseNumber("BLOCK", args[0], 64); err == nil {
					offset, err = parseNumber("OFFSET", args[1], 32)
				}
			}
			return err
		},
	}, cli.Use{JSON: "print the record in its envelope, as JSON"}, func(c *cli.Call) (err error) {
		var r wire.Record
		switch {
		case len(c.Args) == 2:
			r, err = c.Get(c.Ctx, block, uint32(offset))
		case key != "":
			r, err = getByKey(c, key)
		default:
			r, err = c.GetIndex(c.Ctx, index)
		}
		if errors.Is(err, wire.ErrSealIndex) {
			return fmt.Errorf("%w: a block's records are before its seal", err)
		}
		if err != nil {
			return err
		}
		return c.Print(r, string(r.Payload))
	})
	cmd.Flags().Uint64Var(&index, "index", 0, "read the record of this leaf `index`")
	cmd.Flags().StringVar(&key, "key", "", "read the newest record with this `key`")
	cli.NoFiles(cmd, "index", "key")
	return cmd
}

// getByKey reads the newest record with a key.
func getByKey(c *cli.Call, key string) (wire.Record, error) {
	last, err := newest(c, client.ListQuery{Key: key}, 1)
	if err != nil {
		return wire.Record{}, err
	}
	if len(last) == 0 {
		return wire.Record{}, fmt.Errorf("no record of this project has the key %q", key)
	}
	return last[0], nil
}

// parseNumber parses an argument that is a whole number of at most so many bits.
func parseNumber(name, arg string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(arg, 10, bits)
	if errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%s %q is too large: the limit is %d", name, arg, uint64(1)<<bits-1)
	}
	if err != nil {
		return 0, fmt.Errorf("%s %q is not a whole number from 0 on", name, arg)
	}
	return n, nil
}
