package offline

import (
	"errors"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/internal/roles"
)

// NewMasterLogToDatabase prepares a master's folder for an older program.
func NewMasterLogToDatabase() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "log-to-database --data MASTER_DIR",
		Short: "Prepare a stopped master's folder for an older version",
		Long: `Move raft's log of a stopped master from the folder "log" back into raft.db, so that a version which
knows only raft.db opens the folder. Versions after 0.1.0 keep the log in segments: an older one refuses the folder.

Start the older version next. This version moves the log to segments again when it starts, unless the group is below
protocol level 3. A group at level 3 accepts no master of version 0.1.0 or older, whatever its folder has.

An interruption does no harm: run the command again.`,
		Example:           "  chainstore master log-to-database --data /var/lib/chainstore/master",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if data == "" {
				return errors.New("name the data folder of a master that is stopped with --data")
			}
			moved, err := roles.LogToDatabase(data,
				hclog.New(&hclog.LoggerOptions{Name: "log-to-database", Level: hclog.Warn, Output: cmd.ErrOrStderr()}))
			if err != nil {
				return err
			}
			text := "the log is in raft.db: start the older version"
			if !moved {
				text = "the log was in raft.db already"
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data `folder` of a master that is stopped")
	cli.MustComplete(cmd.MarkFlagDirname("data"))
	return cmd
}
