/* The ledger on SQLite (WAL): one transaction writes at a time, so numbers are in commit order. */

#define STATEMENT_SNAPSHOTS 0
#undef LASTING
#define LASTING 1               /* begun by BEGIN: one snapshot */
/* Nobody else writes, and the snapshot is the newest (else: SQLITE_BUSY_SNAPSHOT). */
#define MAY_WRITE (writer == 0 && (!snapshot || (seen0 == data[0] && seen1 == data[1])))
#define MAY_WRITE_BESIDE (writer == 0)

byte writer;                    /* the thread that has the lock, plus one */

bit  joined[PROCESSES];
byte newest[PROCESSES];         /* the newest row known, plus one */
byte new_newest[PROCESSES];

hidden byte last_there;
hidden byte torn;

inline ledger_wrote(t) { writer = t + 1 }

inline ledger_place(t) { place[rows] = 0 }

inline ledger_committed(t) { writer = 0 }

inline ledger_aborted(t) {
    if
    :: entry[t] -> state[entry[t] - 1] = FREE; ours[entry[t] - 1] = 0; rows--
    :: else
    fi;
    if
    :: writer == t + 1 -> writer = 0
    :: else
    fi
}

inline ledger_alone() { place[rows] = 0 }

inline ledger_read() {
    d_step {
        checking[p] == 0 -> checking[p] = t + 1;
        last_there = 0;
        torn = !joined[p];
#ifndef PRUNE_WITHOUT_ANCHOR
        torn = torn || (newest[p] && state[newest[p] - 1] != THERE);
#endif
        for (i : 0 .. ROWS - 1) {
            if
            :: state[i] == THERE ->
                last_there = i + 1;
                if
                :: !torn && i >= newest[p] -> news[p] = 1; named[p] = named[p] || ours[i]
                :: else
                fi
            :: else
            fi
        }
#ifndef PRUNE_WITHOUT_ANCHOR
        torn = torn || (newest[p] == 0 && last_there);
#endif
        new_newest[p] = last_there;
        anew[p] = torn
    }
}

inline ledger_position() { joined[p] = 1; newest[p] = new_newest[p]; new_newest[p] = 0 }

inline ledger_forget(p) { joined[p] = 0; newest[p] = 0; new_newest[p] = 0 }

#ifdef PRUNE_IN_ANY_ORDER
#define FIRST(i) true
#else
#define FIRST(i) (j == ROWS)
#endif

inline ledger_prune() {
    d_step {
        last_there = 0;
        for (i : 0 .. rows - 1) {
            if
            :: state[i] == THERE -> last_there = i
            :: else
            fi
        }
        j = ROWS;
        for (i : 0 .. rows - 1) {
            if
            :: state[i] == THERE && i < last_there && FIRST(i) -> j = i
            :: else
            fi
        }
        if
        :: j < ROWS -> state[j] = GONE; printf("row %d is pruned\n", j + 1)
        :: else
        fi
    }
}

inline ledger_crash() { skip }
