"""Functions of MariaDB and MySQL that only compute.

Nothing tells there whether a SELECT has written, and one that calls a stored function may have.  So
a function that is not known to belong to the server counts as one that writes.  The list is that of
``information_schema.SQL_FUNCTIONS`` and of MySQL's manual, without those that lock, wait or set.
"""

from __future__ import annotations

#: Names before a parenthesis that call a function of the server's own.
FUNCTIONS = frozenset(
    """
    abs acos add_months adddate addtime aes_decrypt aes_encrypt any_value ascii asin asinh
    atan atan2 bin bin_to_uuid binlog_gtid_pos bit_and bit_count bit_length bit_or bit_xor
    cast cbrt ceil ceiling char char_length character_length charset chr coalesce
    coercibility collate collation column_check column_exists column_json column_list
    compress concat concat_operator_oracle concat_ws connection_id conv convert_tz cos cot
    count count_distinct crc32 crc32c cume_dist curdate current_date current_role
    current_time current_timestamp current_user curtime database date date_add date_format
    date_sub datediff day dayname dayofmonth dayofweek dayofyear decode decode_histogram
    decode_oracle default degrees dense_rank des_decrypt des_encrypt elt encode encrypt
    exists exp export_set extract extractvalue field find_in_set first_value floor format
    format_bytes found_rows from_base64 from_days from_unixtime geometrycollection
    get_format greatest group_concat grouping hex hour if ifnull inet6_aton inet6_ntoa
    inet_aton inet_ntoa insert_ instr interval is_free_lock is_ipv4 is_ipv4_compat
    is_ipv4_mapped is_ipv6 is_used_lock is_uuid isnull json_array json_array_append
    json_array_insert json_array_intersect json_arrayagg json_compact json_contains
    json_contains_path json_depth json_detailed json_equals json_exists json_extract
    json_insert json_key_value json_keys json_length json_loose json_merge json_merge_patch
    json_merge_preserve json_normalize json_object json_object_filter_keys
    json_object_to_array json_objectagg json_overlaps json_pretty json_query json_quote
    json_remove json_replace json_schema_valid json_search json_set json_storage_size
    json_table json_type json_unquote json_valid json_value lag last_day last_insert_id
    lateral lcase lead least left length lengthb linestring ln localtime localtimestamp
    locate log log10 log2 lower lpad lpad_oracle ltrim ltrim_oracle make_set makedate
    maketime match max mbrcontains mbrintersects mbrwithin md5 median microsecond mid min
    minute mod month monthname multilinestring multipoint multipolygon name_const
    natural_sort_key now nth_value ntile nullif nvl nvl2 oct octet_length old_password ord
    password percent_rank percentile_cont percentile_disc period_add period_diff pi point
    polygon position pow power quarter quote radians rand random_bytes rank regexp_instr
    regexp_like regexp_replace regexp_substr repeat replace replace_oracle reverse right
    round row_count row_number rownumber rpad rpad_oracle rtrim rtrim_oracle schema schemas
    sec_to_time second session_user sformat sha sha1 sha2 sign sin soundex space sqrt
    st_area st_asbinary st_asgeojson st_astext st_buffer st_centroid st_contains st_crosses
    st_distance st_distance_sphere st_dwithin st_equals st_geomfromgeojson st_geomfromtext
    st_geomfromwkb st_intersection st_intersects st_length st_point st_srid st_touches
    st_transform st_union st_within st_x st_y statement_digest std stddev stddev_pop
    stddev_samp str_to_date strcmp string subdate substr substr_oracle substring
    substring_index subtime sum sys_guid sysdate system_user tan time time_format
    time_to_sec timediff timestamp timestampadd timestampdiff to_base64 to_char to_days
    to_number to_seconds trim trim_oracle trunc truncate ucase uncompress
    uncompressed_length unhex unix_timestamp updatexml upper user utc_date utc_time
    utc_timestamp uuid uuid_short uuid_to_bin uuid_v4 uuid_v7 values var_pop var_samp
    variance vec_distance vec_fromtext vec_totext version week weekday weekofyear
    weight_string wsrep_last_seen_gtid wsrep_last_written_gtid xor year yearweek
    """.split()
)

#: Words before a parenthesis that call nothing.
SYNTAX = frozenset(
    """
    all and any array as between bigint binary blob by case cast columns cross datetime
    decimal div double else except exists explain float for force from group having ignore
    in index inner int integer intersect is join key left like limit materialized mod
    natural not null numeric on or order outer over partition primary recursive regexp rlike
    rows select set signed smallint some straight_join table then tinyint union unsigned use
    using values varbinary varchar when where window with within
    """.split()
)
