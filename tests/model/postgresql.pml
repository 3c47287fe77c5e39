/* The ledger on PostgreSQL: rows carry their transaction's number.  How they are read is included. */

#define STATEMENT_SNAPSHOTS 1   /* each statement has its own, but at REPEATABLE READ */
#define MAY_WRITE true
#define MAY_WRITE_BESIDE true

byte number[THREADS];           /* of the transaction, 0: none assigned */
byte next_number = 1;
byte surely_used;               /* the highest that a crash does not hand out again */

hidden byte lowest, seen;
hidden byte torn;

inline ledger_wrote(t) { number[t] = next_number; next_number++ }

inline ledger_place(t) { place[rows] = number[t] }

inline ledger_committed(t) {
    if
    :: number[t] > surely_used -> surely_used = number[t]
    :: else
    fi;
    number[t] = 0
}

inline ledger_aborted(t) {
    if
    :: entry[t] -> state[entry[t] - 1] = GONE
    :: else
    fi;
    number[t] = 0
}

inline ledger_alone() {
    place[rows] = next_number; surely_used = next_number; next_number++
}

inline find_lowest() {
    lowest = next_number;
    for (i : 0 .. THREADS - 1) {
        if
        :: number[i] && number[i] < lowest -> lowest = number[i]
        :: else
        fi
    }
}

#ifdef STANDBY
#include "postgresql_standby.pml"
#else
#include "postgresql_exact.pml"
#endif

#ifdef PRUNE_IN_ANY_ORDER
#define FIRST(i) true
#else
#define FIRST(i) (j == ROWS || place[i] < place[j])
#endif

/* The row of the lowest number, below the horizon and below the newest row. */
inline ledger_prune() {
    d_step {
        find_lowest();
        seen = 0;
        for (i : 0 .. rows - 1) {
            if
            :: state[i] == THERE && place[i] > seen -> seen = place[i]
            :: else
            fi
        }
        if
        :: seen < lowest -> lowest = seen
        :: else
        fi;
        j = ROWS;
        for (i : 0 .. rows - 1) {
            if
            :: state[i] == THERE && place[i] < lowest && FIRST(i) -> j = i
            :: else
            fi
        }
        if
        :: j < ROWS -> state[j] = GONE; printf("row %d is pruned\n", j + 1)
        :: else
        fi
    }
}

/* After a crash numbers are handed out again that no record on disk has. */
inline ledger_crash() {
    do
    :: next_number > surely_used + 1 -> next_number--
    :: break
    od
}
