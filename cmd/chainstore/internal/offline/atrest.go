package offline

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/roles"
)

// addAtRestKeys adds the flag that names the keys of an encrypted folder.
func addAtRestKeys(cmd *cobra.Command, file *string, usage string) {
	cmd.Flags().StringVar(file, "at-rest-keys", "", usage)
}

// atRestUsage describes the flag for commands that read a folder.
const atRestUsage = "`file` with the keys of a folder that is encrypted at rest"

// atRestStatus is what at-rest status --json prints.
type atRestStatus struct {
	Keys       map[string]int `json:"keys"`       // encrypted files, by the id of the key that they need
	Plain      int            `json:"plain"`      // files of blocks and of the index of records in clear
	Quarantine int            `json:"quarantine"` // files in quarantine/ in clear
	Unread     []string       `json:"unread"`     // files that cannot be read
	// Other counts the files that are not under the first key of --at-rest-keys, those in clear included. It is left
	// out without that flag.
	Other *int `json:"other,omitempty"`
}

// NewAtRest has the commands about encryption at rest.
func NewAtRest() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "at-rest",
		Short: "Show, renew and end the encryption of a node's data folder",
		Long: `Show, renew and end the encryption at rest of a node's data folder.

A storage node with --at-rest-keys FILE encrypts its blocks, its inbox and its index of records. A master with that
flag encrypts its log and its snapshots.`,
	}
	cmd.AddCommand(newAtRestStatus(), newAtRestRewrite(), newAtRestDecrypt())
	return cmd
}

func newAtRestStatus() *cobra.Command {
	var data, keys string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status --data DIR",
		Short: "Count the files of a data folder by the key that they need",
		Long: `Count the files of the data folder of a storage node or master by the id of the key that they need, and
those in clear. No key is needed, and the node may be running or not. A key may be removed from the file of
--at-rest-keys when no file needs it any more, here and in backups. With --at-rest-keys it also counts the files that
are not under the first key of that file.

The files of a master that need a key are log/keys, which has the data keys of the whole log, and the state.key of each
snapshot. Its files in clear are segments of the log that have an entry in clear, and snapshots. Under quarantine are
those in its folder "damaged".`,
		Example: "  chainstore at-rest status --data /var/lib/chainstore/storage " +
			"--at-rest-keys /etc/chainstore/at-rest.keys",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if data == "" {
				return errors.New("name the data folder of a storage node or master with --data")
			}
			var ring *atrest.Ring
			if keys != "" {
				var err error
				if ring, err = atrest.Load(keys); err != nil {
					return err
				}
			}
			files, err := roles.CountAtRest(data)
			if err != nil {
				return err
			}
			s := atRestStatus{
				Keys: map[string]int{}, Plain: files.Plain, Quarantine: files.Quarantine, Unread: []string{},
			}
			var text strings.Builder
			for id, count := range files.Keys {
				s.Keys[id.String()] = count
			}
			for _, id := range slices.Sorted(maps.Keys(s.Keys)) {
				fmt.Fprintf(&text, "key %s  %s\n", id, render.Count(uint64(s.Keys[id]), "file"))
			}
			fmt.Fprintf(&text, "in clear              %s\n", render.Count(uint64(s.Plain), "file"))
			fmt.Fprintf(&text, "in clear, quarantine  %s\n", render.Count(uint64(s.Quarantine), "file"))
			if ring.Has() {
				other := files.Plain + files.Quarantine + len(files.Unread)
				for id, count := range files.Keys {
					if id != ring.Current() {
						other += count
					}
				}
				s.Other = &other
				fmt.Fprintf(&text, "not under key %s  %s\n", ring.Current(), render.Count(uint64(other), "file"))
			}
			for _, err := range files.Unread {
				s.Unread = append(s.Unread, err.Error())
				fmt.Fprintf(&text, "not readable: %v\n", err)
			}
			return render.Print(cmd.OutOrStdout(), asJSON, s, text.String())
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data `folder` of a storage node or master")
	addAtRestKeys(cmd, &keys, "`file` with the keys of the node, to count the files that are not under its first key")
	cli.AddJSON(cmd, &asJSON, "print the counts as one JSON object")
	cli.MustComplete(cmd.MarkFlagDirname("data"))
	return cmd
}

func newAtRestRewrite() *cobra.Command {
	var data, keys string
	cmd := &cobra.Command{
		Use:   "rewrite --data DIR --at-rest-keys FILE",
		Short: "Encrypt all data of a stopped node again, under new data keys",
		Long: `Write all blocks, the inbox and the index of records of a stopped storage node again, or the log and the
snapshots of a stopped master, under new random data keys, encrypted with the first key of the file. Use it when a data
key may be known to others, for instance after a key of the file was. To replace a key of the file only, put the new one
first and let the node run.

Segments with damaged blocks stay as they are, and are named: start the node, let it be repaired, and run the command
again. An interruption does no harm: run the command again. Files in quarantine/, or in the folder "damaged" of a
master, get new headers only.`,
		Example: "  chainstore at-rest rewrite --data /var/lib/chainstore/storage " +
			"--at-rest-keys /etc/chainstore/at-rest.keys",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if data == "" || keys == "" {
				return errors.New("name the data folder of a stopped node with --data, and the keys with " +
					"--at-rest-keys")
			}
			ring, err := atrest.Load(keys)
			if err != nil {
				return err
			}
			if err := roles.RewriteAtRest(cmd.Context(), data, ring); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "all data is encrypted again; the key is %v\n", ring.Current())
			return err
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data `folder` of a node that is stopped")
	addAtRestKeys(cmd, &keys, "`file` with the keys; the first encrypts")
	cli.MustComplete(cmd.MarkFlagDirname("data"))
	return cmd
}

func newAtRestDecrypt() *cobra.Command {
	var data, keys string
	cmd := &cobra.Command{
		Use:   "decrypt --data MASTER_DIR --at-rest-keys FILE",
		Short: "Decrypt the data folder of a stopped master",
		Long: `Write the log and the snapshots of a stopped master again in clear. Afterwards start it without
--at-rest-keys, or start an older version. An interruption does no harm: run the command again.

Files in the folder "damaged" are not decrypted: keep their keys. A storage node has no way back: start a new one
without keys, and remove the old one.`,
		Example: "  chainstore at-rest decrypt --data /var/lib/chainstore/master " +
			"--at-rest-keys /etc/chainstore/at-rest.keys",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if data == "" || keys == "" {
				return errors.New("name the data folder of a stopped master with --data, and the keys with " +
					"--at-rest-keys")
			}
			ring, err := atrest.Load(keys)
			if err != nil {
				return err
			}
			if err := roles.DecryptAtRest(data, ring); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "log and snapshots are in clear: start the master without "+
				"--at-rest-keys")
			return err
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data `folder` of a master that is stopped")
	addAtRestKeys(cmd, &keys, "`file` with the keys of the folder")
	cli.MustComplete(cmd.MarkFlagDirname("data"))
	return cmd
}
